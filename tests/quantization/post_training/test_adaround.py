from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import ModelProto

from compress.exporting.graph import Graph
from compress.quantization.post_training.adaround import (
    Rows,
    adaround,
    rectified_sigmoid,
    regularizer,
    round_rows,
)
from compress.quantization.post_training.static import grids, observe
from compress.quantization.post_training.weights import dequantized, quantize_weights
from compress.quantization.template import QuantizedWeight, Template, template_of
from tests.quantization.graphs import batches_of, run
from tests.quantization.post_training.layers import CASES, convolution

BITS = 4
"""So few that rounding matters."""


def quantized(
    proto: ModelProto, x: np.ndarray
) -> tuple[Template, dict[str, tuple[float, int]], dict[str, QuantizedWeight]]:
    template = template_of(proto)
    grid = grids(template, observe(template, lambda: batches_of("x", x, 32)), "minmax")
    return template, grid, quantize_weights(template, BITS)


def error(proto: ModelProto, weights: dict[str, QuantizedWeight], template: Template, x: np.ndarray) -> float:
    """Of the outputs when only the weights are rounded."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    values = Graph(copy.graph)
    for output, layer in template.layers.items():
        values.arrays[layer.weight] = dequantized(weights[output], layer.axis)
    values.write()
    return float(np.square(run(copy, x=x)[0] - run(proto, x=x)[0]).mean())


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_no_further_than_with_the_nearest_integers(name: str) -> None:
    proto, x = CASES[name](name)
    template, grid, nearest = quantized(proto, x)
    found = adaround(template, grid, nearest, lambda: batches_of("x", x, 32), iterations=200, bits=BITS)
    (output,) = template.layers
    assert np.abs(found[output].integers.astype(int) - nearest[output].integers).max() <= 1
    assert np.abs(found[output].integers).max() <= 2 ** (BITS - 1) - 1
    assert np.array_equal(found[output].scale, nearest[output].scale)
    assert error(proto, found, template, x) <= error(proto, nearest, template, x) * 1.01  # it sees rounded inputs


@pytest.mark.parametrize(("groups", "inputs"), [(1, 36), (4, 9)])
def test_on_correlated_inputs_the_error_is_halved(groups: int, inputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    few = torch.randn(groups, 4000, max(2, inputs // 4), generator=generator)
    x = few @ torch.randn(groups, few.shape[2], inputs, generator=generator)
    x = x + 0.3 * torch.randn(x.shape, generator=generator)
    weight = torch.randn(groups, 6, inputs, generator=generator)
    scale = weight.abs().amax(2, keepdim=True) / 7
    rows = Rows(x, x @ weight.transpose(1, 2))
    integers, before, after = round_rows(weight, scale, torch.zeros(groups, 1, 6), rows, top=7, iterations=1000)
    assert after < (0.5 if groups == 1 else 0.8) * before
    outputs = x @ (integers * scale).transpose(1, 2)
    assert float((outputs - rows.targets).square().mean()) == pytest.approx(after, rel=1e-4)


def test_the_same_seed_gives_the_same_integers_and_no_step_is_further_than_the_floor_and_the_ceiling() -> None:
    proto, x = convolution("plain")
    template, grid, nearest = quantized(proto, x)
    one, other = (
        adaround(template, grid, nearest, lambda: batches_of("x", x), iterations=50, bits=BITS)["c"] for _ in "ab"
    )
    assert np.array_equal(one.integers, other.integers)
    exact = Graph(proto.graph).arrays["w"] / one.scale.reshape(-1, 1, 1, 1)
    assert (np.abs(one.integers - exact) <= 1.0001).all()


def test_it_is_never_worse_even_where_there_is_nothing_to_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(4):
        weight = torch.randn(1, 5, 7, generator=generator)
        inputs = torch.randn(1, 40, 7, generator=generator)
        scale = weight.abs().amax(2, keepdim=True) / 7
        rows = Rows(inputs, inputs @ weight.transpose(1, 2))
        integers, before, after = round_rows(
            weight, scale, torch.zeros(1, 1, 5), rows, top=7, iterations=1 if seed else 200, seed=seed
        )
        outputs = inputs @ (integers * scale).transpose(1, 2)
        assert after <= before
        assert float((outputs - rows.targets).square().mean()) == pytest.approx(after, rel=1e-4)


def test_one_weight_rounds_to_what_all_others_cannot_make_up_for() -> None:
    """Two inputs that are always equal: of 0.4 + 0.3 the nearest integers keep 0, and 1 is the better sum."""
    inputs = torch.ones(1, 64, 2) * torch.linspace(-1, 1, 64).reshape(1, 64, 1)
    weight = torch.tensor([[[0.4, 0.3]]])
    rows = Rows(inputs, inputs @ weight.transpose(1, 2))
    integers, before, after = round_rows(weight, torch.ones(1, 1, 1), torch.zeros(1, 1, 1), rows, iterations=400)
    assert integers.sum() == 1
    assert after / before == pytest.approx((0.3 / 0.7) ** 2, rel=1e-3)


def test_the_papers_functions() -> None:
    v = torch.linspace(-8, 8, 33)
    h = rectified_sigmoid(v)
    assert h[0] == 0 and h[-1] == 1 and h[16] == pytest.approx(0.5)
    assert regularizer(torch.tensor([0.0, 1.0]), 2.0) == 0
    assert regularizer(torch.tensor([0.5]), 2.0) == 1
    assert regularizer(torch.tensor([0.25]), 2.0) == pytest.approx(0.75)
