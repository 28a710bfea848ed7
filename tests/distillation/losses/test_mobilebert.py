from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.mobilebert import attention_transfer_kl, feature_map_transfer, progressive_layer

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kl_by_hand(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """1 / (tokens heads) sum p log(p / q), with padding cut out."""
    total, rows = 0.0, 0
    for s, t, m in zip(student.double().numpy(), teacher.double().numpy(), mask.numpy(), strict=True):
        places = np.flatnonzero(m)
        for log_q, log_p in zip(s[:, places][:, :, places], t[:, places][:, :, places], strict=True):
            p = np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True)
            q = np.exp(log_q) / np.exp(log_q).sum(axis=1, keepdims=True)
            total += float(np.sum(p * np.log(p / q)))
            rows += len(places)
    return total / rows


def test_feature_maps_are_compared_by_the_mean_square_over_real_tokens() -> None:
    student, teacher = normal(3, 4, 6), normal(3, 4, 6, seed=1)
    s, t, real = student.numpy(), teacher.numpy(), MASK.numpy().astype(bool)
    expected = np.mean([(s[n, i] - t[n, i]) ** 2 for n, i in np.argwhere(real)])
    assert feature_map_transfer(student, teacher, MASK).item() == pytest.approx(expected, rel=1e-12)
    assert feature_map_transfer(teacher, teacher, MASK).item() == 0


def test_values_at_padding_reach_neither_value_nor_gradient() -> None:
    student, teacher = normal(3, 4, 6), normal(3, 4, 6, seed=1)
    expected = feature_map_transfer(student, teacher, MASK)
    student[~MASK.bool()] = float("nan")
    student.requires_grad_()
    found = feature_map_transfer(student, teacher, MASK)
    (gradient,) = torch.autograd.grad(found, student)
    assert torch.equal(found, expected)
    assert (gradient[~MASK.bool()] == 0).all()
    assert (gradient[MASK.bool()] != 0).all()


def test_half_precision_is_squared_in_float32() -> None:
    """300^2 is more than fp16 holds."""
    assert feature_map_transfer(torch.full((1, 1, 4), 300.0).half(), torch.zeros(1, 1, 4), torch.ones(1, 1)) == 90_000


def test_attention_is_compared_by_the_mean_divergence() -> None:
    student, teacher = normal(3, 2, 4, 4), 2 * normal(3, 2, 4, 4, seed=1)
    expected = kl_by_hand(student, teacher, MASK)
    assert attention_transfer_kl(student, teacher, MASK).item() == pytest.approx(expected, rel=1e-12)
    assert attention_transfer_kl(teacher + 1, teacher, MASK).item() == pytest.approx(0, abs=1e-14)


def test_the_teachers_attention_is_the_weight_and_not_the_students() -> None:
    certain, unsure = torch.tensor([[[[9.0, 0.0], [9.0, 0.0]]]]), torch.zeros(1, 1, 2, 2)
    mask = torch.ones(1, 2)
    assert attention_transfer_kl(unsure, certain, mask).item() == pytest.approx(0.692, abs=2e-3)
    assert attention_transfer_kl(certain, unsure, mask).item() == pytest.approx(3.807, abs=2e-3)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4, 6\) and the teacher's \(3, 4, 8\)"):
        feature_map_transfer(normal(3, 4, 6), normal(3, 4, 8), MASK)
    with pytest.raises(ValueError, match="the student has 2 heads and the teacher 3"):
        attention_transfer_kl(normal(3, 2, 4, 4), normal(3, 3, 4, 4), MASK)


def test_a_batch_of_padding_alone_teaches_nothing() -> None:
    never = torch.zeros(1, 4)
    assert feature_map_transfer(normal(1, 4, 6), normal(1, 4, 6, seed=1), never).item() == 0
    assert attention_transfer_kl(normal(1, 2, 4, 4), normal(1, 2, 4, 4, seed=1), never).item() == 0


@pytest.mark.parametrize(("layers", "steps"), [(1, 7), (3, 300), (12, 1200), (24, 2400), (100, 100)])
def test_every_layer_is_taught_for_the_same_number_of_steps_from_the_lowest_up(layers: int, steps: int) -> None:
    taught = [progressive_layer(layers, step / steps) for step in range(steps)]
    assert taught == [step * layers // steps for step in range(steps)]
    assert progressive_layer(layers, 1.0) == layers - 1


@pytest.mark.parametrize(("layers", "fraction"), [(0, 0.5), (4, -0.1), (4, 1.1), (4, float("nan"))])
def test_what_is_no_place_in_training_is_refused(layers: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="at least one layer and a share of training"):
        progressive_layer(layers, fraction)
