from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from compress.exporting.graph import Graph
from compress.quantization.post_training.smooth_quant import channel_maxima, places, scales, smooth
from compress.quantization.template import template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run

X = floats(24, 5, 16, seed=9)


def block(*, output: bool = False, other: bool = False) -> ModelProto:
    """A layer normalization with one channel a hundred times the others, read by two linear layers."""
    gain = np.ones(16, np.float32)
    gain[3] = 100.0
    nodes = [
        node("LayerNormalization", "x gain shift", "n"),
        node("MatMul", "n q", "p"),
        node("Add", "p b", "a"),
        node("MatMul", "n k", "c"),
        node("Add", "a c", "y"),
    ]
    if other:
        nodes.append(node("Exp", "n", "z"))
    outputs = {"y": None} | ({"n": None} if output else {}) | ({"z": None} if other else {})
    arrays = {"gain": gain, "shift": floats(16), "q": floats(16, 8), "b": floats(8), "k": floats(16, 8, seed=1)}
    return graph(nodes, arrays, {"x": ["batch", "tokens", 16]}, outputs)


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.8])
def test_outputs_stay_and_the_outlier_flattens(alpha: float) -> None:
    template = template_of(block())
    maxima = channel_maxima(template, lambda: batches_of("x", X, 7))
    found = smooth(template, maxima, alpha)
    (exact,), (same,) = run(template.proto, x=X), run(found.proto, x=X)
    assert np.abs(same - exact).max() <= 1e-5 * np.abs(exact).max()
    before, after = (np.abs(run(proto, "n", x=X)[0]).max((0, 1)) for proto in (template.proto, found.proto))
    assert before[3] / np.median(before) > 50
    assert after[3] / np.median(after) < 60 ** (1 - alpha) * 2
    assert found.layers is template.layers


def test_maxima_are_those_of_each_channel() -> None:
    template = template_of(block())
    found = channel_maxima(template, lambda: batches_of("x", X, 7))
    assert found.keys() == {"n"}
    assert np.allclose(found["n"], np.abs(run(template.proto, "n", x=X)[0]).max((0, 1)), rtol=1e-5)


def test_equation_4() -> None:
    assert scales(np.array([16.0]), np.array([4.0]), 0.5) == pytest.approx([2.0])
    assert scales(np.array([16.0]), np.array([4.0]), 0.75) == pytest.approx([16**0.75 / 4**0.25])
    assert np.array_equal(scales(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.5), np.ones(2))


def test_half_way_weights_and_activations_are_equally_large() -> None:
    template = template_of(block())
    found = smooth(template, channel_maxima(template, lambda: batches_of("x", X)), 0.5)
    activations = np.abs(run(found.proto, "n", x=X)[0]).max((0, 1))
    arrays = Graph(found.proto.graph).arrays
    weights = np.maximum(np.abs(arrays["q"]).max(1), np.abs(arrays["k"]).max(1))
    assert np.allclose(activations, weights, rtol=1e-3)


def test_a_normalization_that_others_read_is_left() -> None:
    assert places(template_of(block())).keys() == {"n"}
    assert places(template_of(block(output=True))) == {}
    assert places(template_of(block(other=True))) == {}
