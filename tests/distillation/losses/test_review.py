from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.review import ReviewConnections, hierarchical_context

Array = npt.NDArray[np.float64]
STUDENT = ((4, 8, 8), (6, 4, 4), (5, 2, 2))
TEACHER = ((3, 8, 8), (7, 2, 2), (9, 4, 4))
"""The teacher's second level is smaller than the student's, its deepest is larger."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps_of(shapes: tuple[tuple[int, int, int], ...], seed: int = 0) -> list[Tensor]:
    return [random(2, *shape, seed=seed + level) for level, shape in enumerate(shapes)]


def pooled(maps: Array, size: int) -> Array:
    """Means over rows floor(i h / n) to ceil((i + 1) h / n), and columns likewise."""
    height, width = maps.shape[-2:]
    found = np.zeros((*maps.shape[:2], size, size))
    for i in range(size):
        for j in range(size):
            rows = slice(i * height // size, -(-(i + 1) * height // size))
            columns = slice(j * width // size, -(-(j + 1) * width // size))
            found[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
    return found


def level_by_hand(student: Tensor, teacher: Tensor, weights: dict[int, float]) -> float:
    """The weighted mean of squares of the maps (weight 1) and of those pooled to the sizes of `weights`."""
    s, t = student.numpy(), teacher.numpy()
    total = ((s - t) ** 2).mean()
    for size, weight in weights.items():
        total += weight * ((pooled(s, size) - pooled(t, size)) ** 2).mean()
    return float(total / (1 + sum(weights.values())))


@pytest.mark.parametrize(
    ("size", "weights"),
    [
        ((8, 8), {4: 1 / 2, 2: 1 / 4, 1: 1 / 8}),
        ((7, 6), {4: 1 / 2, 2: 1 / 4, 1: 1 / 8}),
        ((4, 4), {2: 1 / 2, 1: 1 / 4}),
        ((2, 2), {1: 1 / 2}),
        ((1, 1), {}),
    ],
)
def test_a_level_is_the_weighted_mean_over_its_pyramid(size: tuple[int, int], weights: dict[int, float]) -> None:
    student, teacher = random(2, 3, *size), random(2, 3, *size, seed=1)
    expected = level_by_hand(student, teacher, weights)
    assert hierarchical_context([student], [teacher]).item() == pytest.approx(expected, rel=1e-12)


def test_levels_are_summed_and_equal_maps_give_zero() -> None:
    student, teacher = maps_of(STUDENT), maps_of(STUDENT, seed=5)
    expected = sum(hierarchical_context([s], [t]).item() for s, t in zip(student, teacher, strict=True))
    assert hierarchical_context(student, teacher).item() == pytest.approx(expected, rel=1e-14)
    assert hierarchical_context(teacher, teacher).item() == 0


def test_other_shapes_and_missing_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        hierarchical_context([random(2, 1, 4, 4)], [random(2, 3, 4, 4)])
    with pytest.raises(ValueError, match="argument"):
        hierarchical_context(maps_of(STUDENT), maps_of(STUDENT)[:2])
    with pytest.raises(ValueError, match="3 levels of the student and 2 of the teacher"):
        ReviewConnections(STUDENT, TEACHER[:2], 4)


def convolved(maps: Array, weight: Array, bias: Array | None = None) -> Array:
    """A convolution with zeros around, of as many rows and columns as before."""
    size, (height, width) = weight.shape[-1], maps.shape[-2:]
    around = np.pad(maps, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    total = np.zeros((len(maps), len(weight), height, width))
    for i in range(size):
        for j in range(size):
            total += np.einsum("oi,nihw->nohw", weight[:, :, i, j], around[:, :, i : i + height, j : j + width])
    return total if bias is None else total + bias[:, None, None]


def normalized(maps: Array) -> Array:
    """Batch norm as it begins: by the batch's own mean and variance, without a scale and a shift."""
    variance = maps.var((0, 2, 3), keepdims=True)
    found: Array = (maps - maps.mean((0, 2, 3), keepdims=True)) / np.sqrt(variance + 1e-5)
    return found


def resized(maps: Array, size: tuple[int, int]) -> Array:
    """Nearest neighbours: position i takes from floor(i h / n)."""
    rows = np.arange(size[0]) * maps.shape[2] // size[0]
    columns = np.arange(size[1]) * maps.shape[3] // size[1]
    return maps[:, :, rows][:, :, :, columns]


def reviewed(parameters: dict[str, Array], student_maps: list[Array]) -> list[Array]:
    """The fusion from the deepest level to the shallowest, in NumPy."""
    found: list[Array] = []
    deeper: Array | None = None
    for level in reversed(range(len(student_maps))):
        part = f"levels.{level}."
        mixed = normalized(convolved(student_maps[level], parameters[part + "enter.0.weight"]))
        if deeper is not None:
            deeper = resized(deeper, mixed.shape[-2:])
            both = np.concatenate([mixed, deeper], 1)
            weight, bias = parameters[part + "attention.weight"], parameters[part + "attention.bias"]
            attention = 1 / (1 + np.exp(-convolved(both, weight, bias)))
            mixed = mixed * attention[:, :1] + deeper * attention[:, 1:]
        deeper = resized(mixed, TEACHER[level][1:])
        found.insert(0, normalized(convolved(deeper, parameters[part + "leave.0.weight"])))
    return found


def test_connections_are_their_definition() -> None:
    connections = ReviewConnections(STUDENT, TEACHER, mid_channels=4).double()
    parameters = {name: value.detach().numpy() for name, value in connections.named_parameters()}
    student = maps_of(STUDENT)
    expected = reviewed(parameters, [level.numpy() for level in student])
    found = connections(student)
    assert [tuple(level.shape[1:]) for level in found] == list(TEACHER)
    for level, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(level.detach().numpy(), wanted, rtol=1e-8, atol=1e-10)


def test_shallow_levels_review_deeper_ones_and_not_the_reverse() -> None:
    connections = ReviewConnections(STUDENT, TEACHER, mid_channels=4).double()
    student = [level.requires_grad_() for level in maps_of(STUDENT)]
    for level, found in enumerate(connections(student)):
        gradients = torch.autograd.grad(found.square().sum(), student, allow_unused=True, retain_graph=True)
        assert [gradient is not None for gradient in gradients] == [deep >= level for deep in range(3)]


def test_gradients_reach_the_student_and_all_that_is_learned() -> None:
    connections = ReviewConnections(STUDENT, TEACHER, 5).double()
    student = [level.requires_grad_() for level in maps_of(STUDENT)]
    hierarchical_context(connections(student), maps_of(TEACHER, seed=5)).backward()  # type: ignore[no-untyped-call]
    for tensor in (*student, *connections.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 1e-6


def test_a_single_level_is_fused_with_nothing() -> None:
    (found,) = ReviewConnections(STUDENT[:1], TEACHER[:1], 5).double()(maps_of(STUDENT[:1]))
    assert found.shape == (2, *TEACHER[0])
