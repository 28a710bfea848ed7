from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from compress.exporting.graph import Graph
from compress.quantization.post_training.bias_correction import correct_biases, correction
from compress.quantization.post_training.weights import dequantized, quantize_weights
from compress.quantization.template import template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run, two_convolutions


def single(kind: str) -> tuple[ModelProto, str, np.ndarray]:
    """A graph of one layer, the name of what it writes, and inputs whose mean is not zero."""
    x = floats(32, 4, 8, 8, seed=9) + np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    arrays = {"b": floats(8)}
    if kind == "conv":
        arrays["w"] = floats(8, 4, 3, 3)
        nodes = [node("Conv", "x w b", "y", strides=[1, 2])]
    elif kind == "grouped":
        arrays["w"] = floats(8, 2, 3, 3)
        nodes = [node("Conv", "x w b", "y", group=2)]
    elif kind == "depthwise":
        arrays["w"] = floats(8, 1, 3, 3)
        nodes = [node("Conv", "x w b", "y", group=4)]
    elif kind == "transposed":
        arrays["w"] = floats(4, 8, 2, 3)
        nodes = [node("ConvTranspose", "x w b", "y", strides=[2, 3])]
    elif kind == "gemm":
        arrays["w"] = floats(8, 256)
        nodes = [node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=1)]
    else:
        arrays["w"] = floats(8, 8)
        nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "y")]
    return graph(nodes, arrays, {"x": ["batch", 4, 8, 8]}, {"y": None}), "y", x


def mean(proto: ModelProto, x: np.ndarray, axis: int) -> np.ndarray:
    found = np.moveaxis(run(proto, "y", x=x)[0], axis, -1)
    result: np.ndarray = found.reshape(-1, found.shape[-1]).mean(0, dtype=np.float64)
    return result


@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise", "transposed", "gemm", "matmul"])
def test_the_mean_output_with_rounded_weights_is_the_float_one(kind: str) -> None:
    proto, _, x = single(kind)
    axis = -1 if kind in ("gemm", "matmul") else 1
    template = template_of(proto)
    weights = quantize_weights(template, 4)
    corrected = correct_biases(template, weights, lambda: batches_of("x", x, 10))

    def rounded(given: ModelProto) -> ModelProto:
        copy = ModelProto()
        copy.CopyFrom(given)
        values = Graph(copy.graph)
        values.arrays["w"] = dequantized(weights["y"], template.layers["y"].axis)
        values.write()
        return copy

    expected = mean(proto, x, axis)
    before, after = (np.abs(mean(rounded(item), x, axis) - expected).max() for item in (proto, corrected.proto))
    assert before > 0.01
    # where a kernel's window does not reach every pixel, the mean over what it sees is another one
    assert after < (1e-4 if kind in ("gemm", "matmul") else 0.1 * before)


def test_the_formula_term_by_term() -> None:
    weight, rounded, means = floats(6, 2, 3, 3), floats(6, 2, 3, 3, seed=1), floats(4, seed=2)
    found = correction(weight, rounded, means, 0, groups=2)
    for out in range(6):
        expected = 0.0
        for i in range(2):
            channel = (out // 3) * 2 + i
            expected += float((rounded[out, i].astype(np.float64) - weight[out, i]).sum() * means[channel])
        assert found[out] == pytest.approx(expected)


def test_weights_and_the_template_stay_as_they_are() -> None:
    template = template_of(two_convolutions())
    before = template.proto.SerializeToString(deterministic=True)
    x = floats(20, 3, 8, 8)
    found = correct_biases(template, quantize_weights(template, 4), lambda: batches_of("x", x))
    assert template.proto.SerializeToString(deterministic=True) == before
    old, new = Graph(template.proto.graph).arrays, Graph(found.proto.graph).arrays
    assert all(np.array_equal(old[name], new[name]) == name.startswith("w") for name in old)


def test_a_bias_that_others_read_too_is_left() -> None:
    proto = graph(
        [node("Conv", "x w b", "c"), node("Relu", "c", "r"), node("Conv", "r v b", "y")],
        {"w": floats(4, 3, 3, 3), "v": floats(4, 4, 3, 3, seed=1), "b": floats(4)},
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )
    template = template_of(proto)
    x = floats(8, 3, 8, 8)
    found = correct_biases(template, quantize_weights(template, 4), lambda: batches_of("x", x))
    assert np.array_equal(Graph(found.proto.graph).arrays["b"], Graph(proto.graph).arrays["b"])
