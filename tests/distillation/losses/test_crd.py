from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.crd import ContrastiveBank, OtherExamples, contrast

Array = npt.NDArray[np.float64]
EXAMPLES, NEGATIVES, TEMPERATURE, MOMENTUM = 12, 7, 0.2, 0.3
INDICES = torch.tensor([3, 0, 11, 5])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bank_of(targets: Tensor | None = None, seed: int = 0, negatives: int = NEGATIVES) -> ContrastiveBank:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bank = ContrastiveBank(EXAMPLES, 6, 10, 5, negatives, TEMPERATURE, MOMENTUM, targets, seed)
    return bank.double()


def contrast_by_hand(scores: Array, examples: int) -> float:
    """From scores themselves, one after the other."""
    noise, total = (scores.shape[1] - 1) / examples, 0.0
    for row in scores:
        total -= np.log(row[0] / (row[0] + noise))
        for score in row[1:]:
            total -= np.log(noise / (score + noise))
    return total / len(scores)


def directions(rows: Array) -> Array:
    scaled: Array = rows / np.sqrt((rows**2).sum(1, keepdims=True))
    return scaled


def embedded(bank: ContrastiveBank, student: Tensor, teacher: Tensor) -> tuple[Array, Array]:
    parameters = {name: value.detach().numpy() for name, value in bank.named_parameters()}
    sides = (("student", student), ("teacher", teacher))
    found = [
        directions(features.numpy() @ parameters[f"{side}_embedding.weight"].T + parameters[f"{side}_embedding.bias"])
        for side, features in sides
    ]
    return found[0], found[1]


def loss_by_hand(bank: ContrastiveBank, student: Tensor, teacher: Tensor, seed: int) -> tuple[float, Array]:
    """The loss of a first step and both constants Z, from the memories as they are."""
    drawn = bank.others.draw(INDICES, NEGATIVES, seed).numpy()
    compared = np.concatenate([INDICES.numpy()[:, None], drawn], 1)
    total, constants = 0.0, []
    memories = (bank.teacher_bank.numpy(), bank.student_bank.numpy())
    for embeddings, memory in zip(embedded(bank, student, teacher), memories, strict=True):
        scores = np.array(
            [[np.exp(memory[j] @ e / TEMPERATURE) for j in row] for row, e in zip(compared, embeddings, strict=True)]
        )
        constants.append(scores.mean() * EXAMPLES)
        total += contrast_by_hand(scores / constants[-1], EXAMPLES)
    return total, np.array(constants)


def test_contrast_is_its_definition() -> None:
    log_scores = random(5, 9) - 2
    expected = contrast_by_hand(np.exp(log_scores.numpy()), 100)
    assert contrast(log_scores, 100).item() == pytest.approx(expected, rel=1e-13)


def test_contrast_goes_to_zero_where_the_positive_is_certain_and_the_negatives_are_not() -> None:
    assert contrast(torch.tensor([[60.0, -60.0, -60.0]]), 10).item() == pytest.approx(0, abs=1e-20)


def test_contrast_of_extreme_scores_is_finite() -> None:
    log_scores = torch.tensor([[-1e4, 1e4, 1e4]], requires_grad=True)
    loss = contrast(log_scores, 10)
    (gradient,) = torch.autograd.grad(loss, log_scores)
    assert loss.item() == pytest.approx(3e4, rel=1e-3)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 1.0, 1.0]]))


def test_the_first_step_is_its_definition_and_keeps_the_constants() -> None:
    bank, student, teacher = bank_of(), random(4, 6), random(4, 10, seed=1)
    expected, constants = loss_by_hand(bank, student, teacher, 77)
    assert bank(student, teacher, INDICES, 77).item() == pytest.approx(expected, rel=1e-11)
    np.testing.assert_allclose(bank.log_constants.numpy(), np.log(constants), rtol=1e-12)
    bank(5 * student + 1, teacher, INDICES, 78)
    np.testing.assert_allclose(bank.log_constants.numpy(), np.log(constants), rtol=1e-12)


def test_memories_move_towards_the_embeddings_in_training_only() -> None:
    bank, student, teacher = bank_of(), random(4, 6), random(4, 10, seed=1)
    before = copy.deepcopy(bank.state_dict())
    bank.eval()
    bank(student, teacher, INDICES, 77)
    assert all(torch.equal(value, before[name]) for name, value in bank.state_dict().items())
    bank.train()
    bank(student, teacher, INDICES, 77)
    names = ("student_bank", "teacher_bank")
    for name, embeddings in zip(names, embedded(bank, student, teacher), strict=True):
        expected = before[name].numpy().copy()
        rows = INDICES.numpy()
        expected[rows] = directions(MOMENTUM * expected[rows] + (1 - MOMENTUM) * embeddings)
        np.testing.assert_allclose(bank.get_buffer(name).numpy(), expected, rtol=1e-12, atol=1e-15)


def test_gradients_are_those_of_differences_and_reach_both_embeddings() -> None:
    bank, teacher = bank_of().eval(), random(4, 10, seed=1)
    student = random(4, 6).requires_grad_()
    bank.train()(student, teacher, INDICES, 76)
    # The gradient of a step in training, after which memories have changed, is that of the loss before the change.
    fixed = copy.deepcopy(bank).eval()
    assert torch.autograd.gradcheck(lambda features: fixed(features, teacher, INDICES, 77), student)
    (expected,) = torch.autograd.grad(fixed(student, teacher, INDICES, 77), student)
    bank(student, teacher, INDICES, 77).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected, rtol=1e-12, atol=1e-14)
    for tensor in (student, *bank.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 1e-4


def test_learning_lowers_the_loss() -> None:
    bank = bank_of()
    student, teacher = random(EXAMPLES, 6), random(EXAMPLES, 10, seed=1)
    optimizer = torch.optim.SGD(bank.parameters(), lr=0.02)
    values = []
    for step in range(60):
        loss = bank(student, teacher, torch.arange(EXAMPLES), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])


@pytest.mark.parametrize("targets", [None, torch.arange(EXAMPLES) % 3, torch.tensor([4] + [9] * (EXAMPLES - 1))])
def test_negatives_are_all_permitted_examples_equally_often(targets: Tensor | None) -> None:
    drawn = OtherExamples(EXAMPLES, targets).draw(torch.arange(EXAMPLES), 20_000, 5).numpy()
    classes = np.arange(EXAMPLES) if targets is None else targets.numpy()
    for own, row in enumerate(drawn):
        share = np.bincount(row, minlength=EXAMPLES) / len(row)
        permitted = classes != classes[own]
        assert (share[~permitted] == 0).all()
        # Five standard deviations of a share.
        deviation = np.sqrt(1 / permitted.sum() / len(row))
        np.testing.assert_allclose(share[permitted], 1 / permitted.sum(), atol=5 * deviation)


def test_negatives_follow_from_their_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    others = OtherExamples(EXAMPLES)
    first, again, other = (others.draw(INDICES, NEGATIVES, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_makes_the_first_memories_and_rows_have_length_one_on_average() -> None:
    assert torch.equal(bank_of(seed=3).student_bank, bank_of(seed=3).student_bank)
    assert not torch.equal(bank_of(seed=3).student_bank, bank_of(seed=4).student_bank)
    large = ContrastiveBank(5000, 2, 2, width=16, negatives=2)
    assert large.student_bank.double().square().sum(1).mean().item() == pytest.approx(1, rel=0.02)
    assert not torch.equal(large.student_bank, large.teacher_bank)


def test_a_checkpoint_continues_as_if_nothing_had_happened() -> None:
    bank, student, teacher = bank_of(), random(4, 6), random(4, 10, seed=1)
    bank(student, teacher, INDICES, 77)
    other = bank_of(seed=9)
    other.load_state_dict(bank.state_dict())
    assert other(student, teacher, INDICES, 78).item() == bank(student, teacher, INDICES, 78).item()


def test_classes_change_which_negatives_the_loss_has() -> None:
    student, teacher = random(4, 6), random(4, 10, seed=1)
    bank = bank_of(torch.arange(EXAMPLES) % 3)
    expected, _ = loss_by_hand(bank, student, teacher, 77)
    assert bank(student, teacher, INDICES, 77).item() == pytest.approx(expected, rel=1e-11)
    assert bank_of()(student, teacher, INDICES, 77).item() != pytest.approx(expected, rel=1e-3)


def test_too_few_examples_and_wrong_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="no negatives"):
        ContrastiveBank(1, 2, 2)
    with pytest.raises(ValueError, match="no negatives"):
        ContrastiveBank(4, 2, 2, targets=torch.ones(4))
    with pytest.raises(ValueError, match="for 4 examples"):
        ContrastiveBank(4, 2, 2, targets=torch.ones(3))
