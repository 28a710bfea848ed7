from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from compress.distillation.losses.hint import Projector, hint, match_sizes


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pooled(maps: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Means over rows floor(i h / n) to ceil((i + 1) h / n), and columns likewise."""
    height, width = maps.shape[-2:]
    found = np.zeros((*maps.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
            found[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
    return found


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (2, 3, 4, 4)])
def test_it_is_the_mean_square_and_zero_at_equality(shape: tuple[int, ...]) -> None:
    student, teacher = random(*shape), random(*shape, seed=1)
    expected = ((student.numpy() - teacher.numpy()) ** 2).mean()
    np.testing.assert_allclose(hint(student, teacher).numpy(), expected, rtol=1e-14)
    assert hint(teacher, teacher).item() == 0


def test_half_precision_does_not_overflow() -> None:
    zeros = torch.zeros(2, 3, dtype=torch.float16)
    assert hint(zeros, zeros + 1000).item() == pytest.approx(1e6)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\) and \(4, 3\)"):
        hint(random(4, 1), random(4, 3))


@pytest.mark.parametrize(
    ("student", "teacher"), [((8, 8), (4, 4)), ((4, 4), (7, 7)), ((5, 3), (2, 6)), ((3, 3), (3, 3))]
)
def test_both_maps_are_pooled_to_the_smaller_size(student: tuple[int, int], teacher: tuple[int, int]) -> None:
    maps = random(2, 3, *student), random(2, 5, *teacher, seed=1)
    size = (min(student[0], teacher[0]), min(student[1], teacher[1]))
    for found, given in zip(match_sizes(*maps), maps, strict=True):
        np.testing.assert_allclose(found.numpy(), pooled(given.numpy(), size), rtol=1e-13)


def test_maps_go_through_a_convolution_of_width_one_and_batch_norm() -> None:
    projector = Projector((3, 8, 8), (5, 4, 4)).double()
    features = random(6, 3, 8, 8)
    parameters = {name: value.detach().numpy() for name, value in projector.named_parameters()}
    mixed = np.einsum("oi,nihw->nohw", parameters["layers.0.weight"][:, :, 0, 0], pooled(features.numpy(), (4, 4)))
    mean, variance = mixed.mean((0, 2, 3), keepdims=True), mixed.var((0, 2, 3), keepdims=True)
    expected = (mixed - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(projector(features).detach().numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("student", "teacher"), [((4,), (6,)), ((7, 4), (7, 6))])
def test_vectors_and_tokens_go_through_a_linear_layer(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    projector = Projector(student, teacher).double()
    layer = projector.layers
    assert isinstance(layer, nn.Linear)
    features = random(3, *student)
    expected = features.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    found = projector(features).detach().numpy()
    assert found.shape == (3, *teacher)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_larger_map_of_the_teacher_is_pooled_by_the_loss() -> None:
    projected, teacher = match_sizes(Projector((3, 4, 4), (5, 8, 8)).double()(random(2, 3, 4, 4)), random(2, 5, 8, 8))
    assert projected.shape == teacher.shape == (2, 5, 4, 4)


@pytest.mark.parametrize("shape", [(4,), (7, 4), (4, 3, 3)])
def test_the_projector_is_learned_also_between_equal_shapes(shape: tuple[int, ...]) -> None:
    projector = Projector(shape, shape).double()
    features = random(3, *shape).requires_grad_()
    hint(projector(features), random(3, *shape, seed=1)).backward()  # type: ignore[no-untyped-call]
    for tensor in (features, *projector.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("student", "teacher"), [((4,), (4, 4)), ((7, 4), (8, 4)), ((), ()), ((1, 2, 3, 4), (1, 2, 3, 4))]
)
def test_shapes_of_different_kinds_are_refused(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no projection"):
        Projector(student, teacher)
