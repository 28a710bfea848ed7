from __future__ import annotations

import weakref
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.chunked import chunked_loss, rows_per_chunk

ROWS, VOCABULARY, WIDTH, TEACHERS_WIDTH, TEMPERATURE = 7, 11, 4, 6, 2.0
Array = NDArray[np.float64]


@dataclass
class Case:
    student_hidden: Tensor
    student_matrix: Tensor
    student_bias: Tensor
    teacher_hidden: Tensor
    teacher_matrix: Tensor
    teacher_bias: Tensor
    targets: Tensor

    def loss(self, chunk: int = 3, row_loss: object = None) -> Tensor:
        return chunked_loss(
            self.student_hidden,
            self.student_matrix,
            self.teacher_hidden,
            self.teacher_matrix,
            self.targets,
            row_loss=both if row_loss is None else row_loss,  # type: ignore[arg-type]
            chunk=chunk,
            student_bias=self.student_bias,
            teacher_bias=self.teacher_bias,
        )

    def students(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.student_hidden, self.student_matrix, self.student_bias


def make(seed: int = 0, kind: torch.dtype = torch.float64, wanted: bool = True) -> Case:
    numbers = np.random.default_rng(seed)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(numbers.normal(size=shape)).to(kind)

    case = Case(
        student_hidden=normal(ROWS, WIDTH),
        student_matrix=normal(VOCABULARY, WIDTH),
        student_bias=normal(VOCABULARY),
        teacher_hidden=normal(ROWS, TEACHERS_WIDTH),
        teacher_matrix=normal(VOCABULARY, TEACHERS_WIDTH),
        teacher_bias=normal(VOCABULARY),
        targets=torch.from_numpy(numbers.integers(VOCABULARY, size=ROWS)),
    )
    for tensor in case.students():
        tensor.requires_grad_(wanted)
    return case


def both(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
    """T^2 KL plus cross-entropy, summed over rows."""
    assert teacher is not None
    assert targets is not None
    ours, theirs = (functional.log_softmax(logits / TEMPERATURE, dim=1) for logits in (student, teacher))
    divergence = TEMPERATURE**2 * (theirs.exp() * (theirs - ours)).sum()
    return divergence + functional.cross_entropy(student, targets, reduction="sum")


def softmax(logits: Array) -> Array:
    powers = np.exp(logits)
    shares: Array = powers / powers.sum(1, keepdims=True)
    return shares


def by_hand(case: Case) -> tuple[float, Array, Array, Array]:
    """The plain formula: value, and gradients of hidden, matrix and bias."""
    hidden, matrix, bias, teachers, teachers_matrix, teachers_bias, targets = (
        getattr(case, field.name).detach().numpy() for field in fields(case)
    )
    logits, answers = hidden @ matrix.T + bias, teachers @ teachers_matrix.T + teachers_bias
    q, p = softmax(logits / TEMPERATURE), softmax(answers / TEMPERATURE)
    certain = np.eye(VOCABULARY)[targets]
    value = TEMPERATURE**2 * (p * np.log(p / q)).sum() - np.log(softmax(logits)[np.arange(ROWS), targets]).sum()
    gradient = (TEMPERATURE * (q - p) + softmax(logits) - certain) / ROWS
    return value / ROWS, gradient @ matrix, gradient.T @ hidden, gradient.sum(0)


@pytest.mark.parametrize("chunk", [1, 3, ROWS, 100])
def test_value_and_gradients_are_those_of_the_plain_formula(chunk: int) -> None:
    case = make()
    value, *gradients = by_hand(case)
    loss = case.loss(chunk)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    for found, expected in zip(torch.autograd.grad(loss, case.students()), gradients, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_a_weight_on_the_loss_reaches_the_gradients() -> None:
    case = make(1)
    _, *gradients = by_hand(case)
    for found, expected in zip(torch.autograd.grad(0.3 * case.loss(), case.students()), gradients, strict=True):
        np.testing.assert_allclose(found.numpy(), 0.3 * expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["student_hidden", "student_matrix", "student_bias"])
def test_what_wants_no_gradient_gets_none(name: str) -> None:
    case = make(2)
    getattr(case, name).requires_grad_(False)
    _, *gradients = by_hand(case)
    torch.autograd.backward(case.loss())
    for tensor, expected in zip(case.students(), gradients, strict=True):
        if tensor.requires_grad:
            assert tensor.grad is not None
            np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-10, atol=1e-12)
        else:
            assert tensor.grad is None


def test_nothing_flows_into_the_teacher() -> None:
    case = make(3)
    case.teacher_hidden.requires_grad_()
    torch.autograd.backward(case.loss())
    assert case.teacher_hidden.grad is None
    assert case.student_hidden.grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_is_the_same_number(mode: type[torch.no_grad]) -> None:
    case = make(4)
    with mode():
        loss = case.loss()
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(by_hand(case)[0], rel=1e-12)
    assert not make(4, wanted=False).loss().requires_grad


def test_without_a_teacher_and_a_bias_it_is_the_cross_entropy() -> None:
    case = make(5)

    def of_labels(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
        assert teacher is None
        assert targets is not None
        return functional.cross_entropy(student, targets, reduction="sum")

    hidden, matrix = case.student_hidden, case.student_matrix
    loss = chunked_loss(hidden, matrix, None, None, case.targets, row_loss=of_labels, chunk=2)
    x, w = hidden.detach().numpy(), matrix.detach().numpy()
    q = softmax(x @ w.T)
    assert loss.item() == pytest.approx(-np.log(q[np.arange(ROWS), case.targets.numpy()]).mean(), rel=1e-12)
    gradient = (q - np.eye(VOCABULARY)[case.targets.numpy()]) / ROWS
    found = torch.autograd.grad(loss, (hidden, matrix))
    np.testing.assert_allclose(found[0].numpy(), gradient @ w, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[1].numpy(), gradient.T @ x, rtol=1e-10, atol=1e-12)


def test_without_targets_the_loss_of_rows_is_given_none() -> None:
    case = make(6)

    def squares(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
        assert targets is None
        assert teacher is not None
        return (student - teacher).square().sum()

    loss = chunked_loss(
        case.student_hidden,
        case.student_matrix,
        case.teacher_hidden,
        case.teacher_matrix,
        None,
        row_loss=squares,
        chunk=2,
    )
    ours = case.student_hidden.detach().numpy() @ case.student_matrix.detach().numpy().T
    theirs = case.teacher_hidden.numpy() @ case.teacher_matrix.numpy().T
    assert loss.item() == pytest.approx(((ours - theirs) ** 2).sum() / ROWS, rel=1e-12)


def test_a_matrix_that_is_also_the_embedding_gets_the_gradients_of_both_uses() -> None:
    tied = make(7)
    words = torch.tensor([0, 1, 1, 4, 10, 2, 1])
    mixing = torch.from_numpy(np.random.default_rng(8).normal(size=(WIDTH, WIDTH)))
    matrix = tied.student_matrix

    def hidden() -> Tensor:
        return torch.tanh(functional.embedding(words, matrix) @ mixing)

    tied.student_hidden = hidden()
    (found,) = torch.autograd.grad(tied.loss(), matrix)
    answers = functional.linear(tied.teacher_hidden, tied.teacher_matrix, tied.teacher_bias)
    plain = both(functional.linear(hidden(), matrix, tied.student_bias), answers, tied.targets) / ROWS
    (expected,) = torch.autograd.grad(plain, matrix)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_one_chunk_of_logits_is_alive_at_a_time() -> None:
    seen: list[weakref.ref[Tensor]] = []

    def watched(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
        assert teacher is not None
        assert len(student) <= 2
        assert all(reference() is None for reference in seen)
        seen.extend((weakref.ref(student), weakref.ref(teacher)))
        return both(student, teacher, targets)

    loss = make(9).loss(chunk=2, row_loss=watched)
    assert loss.requires_grad
    assert len(seen) == 8
    assert all(reference() is None for reference in seen)


def test_a_second_gradient_is_refused_rather_than_wrong() -> None:
    case = make(10)
    loss = case.loss()
    torch.autograd.backward(loss, retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        torch.autograd.backward(loss)


def test_no_rows_are_a_loss_of_zero() -> None:
    case = make(11)
    hidden = case.student_hidden.detach()[:0].requires_grad_()
    loss = chunked_loss(
        hidden,
        case.student_matrix,
        case.teacher_hidden[:0],
        case.teacher_matrix,
        case.targets[:0],
        row_loss=both,
        chunk=2,
    )
    assert loss.item() == 0
    torch.autograd.backward(loss)
    assert case.student_matrix.grad is not None
    assert not case.student_matrix.grad.any()


def test_float32_is_as_good_as_the_plain_loss_in_float32() -> None:
    case = make(12, torch.float32)
    value, *gradients = by_hand(make(12))
    loss = case.loss()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(value, rel=1e-5)
    for found, expected in zip(torch.autograd.grad(loss, case.students()), gradients, strict=True):
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("autocast", [True, False])
def test_in_bfloat16_the_matrix_gathers_its_gradient_in_float32(autocast: bool) -> None:
    """Many chunks of one row are no worse than a single chunk: a sum kept in bfloat16 would lose the later ones."""
    generator = torch.Generator().manual_seed(13)
    kind = torch.float32 if autocast else torch.bfloat16
    hidden = (1 + 0.1 * torch.randn(2000, 2, generator=generator)).to(kind).requires_grad_()
    matrix = torch.zeros(3, 2, dtype=kind).requires_grad_()
    targets = torch.zeros(2000, dtype=torch.long)

    def of_labels(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
        assert student.dtype == torch.bfloat16
        assert targets is not None
        return functional.cross_entropy(student.float(), targets, reduction="sum")

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = chunked_loss(hidden, matrix, None, None, targets, row_loss=of_labels, chunk=1)
    (gradient,) = torch.autograd.grad(loss, matrix)
    expected = np.outer([-2 / 3, 1 / 3, 1 / 3], hidden.detach().double().numpy().mean(0))
    assert loss.item() == pytest.approx(np.log(3), rel=1e-3)
    assert gradient.dtype == kind
    np.testing.assert_allclose(gradient.double().numpy(), expected, rtol=2**-7)


def test_faulty_calls_are_refused() -> None:
    case = make(14)
    with pytest.raises(ValueError, match="chunk"):
        case.loss(chunk=0)
    case.targets = case.targets[:-1]
    with pytest.raises(ValueError, match="rows"):
        case.loss()
    with pytest.raises(ValueError, match="teacher"):
        chunked_loss(case.student_hidden, case.student_matrix, case.teacher_hidden, None, None, row_loss=both, chunk=1)


def test_a_chunk_takes_the_bytes_given_and_one_row_at_least() -> None:
    assert rows_per_chunk(50_000, bytes=2_000_000) == 10
    assert rows_per_chunk(50_001, bytes=2_000_000) == 9
    assert rows_per_chunk(10**9) == 1
