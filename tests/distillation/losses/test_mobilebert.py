from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.mobilebert import feature_map_transfer, progressive_layer

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4, 6\) and the teacher's \(3, 4, 8\)"):
        feature_map_transfer(normal(3, 4, 6), normal(3, 4, 8), MASK)


def test_a_batch_of_padding_alone_teaches_nothing() -> None:
    never = torch.zeros(1, 4)
    assert feature_map_transfer(normal(1, 4, 6), normal(1, 4, 6, seed=1), never).item() == 0


@pytest.mark.parametrize(("layers", "steps"), [(1, 7), (3, 300), (12, 1200), (24, 2400), (100, 100)])
def test_every_layer_is_taught_for_the_same_number_of_steps_from_the_lowest_up(layers: int, steps: int) -> None:
    taught = [progressive_layer(layers, step / steps) for step in range(steps)]
    assert taught == [step * layers // steps for step in range(steps)]
    assert progressive_layer(layers, 1.0) == layers - 1


@pytest.mark.parametrize(("layers", "fraction"), [(0, 0.5), (4, -0.1), (4, 1.1), (4, float("nan"))])
def test_what_is_no_place_in_training_is_refused(layers: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="at least one layer and a share of training"):
        progressive_layer(layers, fraction)
