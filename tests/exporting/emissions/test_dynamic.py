from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from compress.exporting.emissions import dynamic as emission
from compress.exporting.emissions.dynamic import dynamic
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from tests.exporting.emissions.transformer_graphs import optimized
from tests.processor import WEIGHT_BITS

GENERATOR = np.random.default_rng(0)
WIDE, NARROW = GENERATOR.normal(size=(2, 64, 64)).astype(np.float32), GENERATOR.normal(size=(64, 3)).astype(np.float32)
BIAS = GENERATOR.normal(size=64).astype(np.float32)
GREATEST = 2 ** (WEIGHT_BITS - 1) - 1


def _network(*, gemm: bool = False) -> ModelProto:
    """Two layers that read x, their difference, a layer without enough weights."""
    arrays = {"first": WIDE[0], "second": WIDE[1].T if gemm else WIDE[1], "narrow": NARROW, "bias": BIAS}
    second = (
        [helper.make_node("Gemm", ["x", "second", "bias"], ["c"], "two", transB=1)]
        if gemm
        else [helper.make_node("MatMul", ["x", "second"], ["b"], "two"), helper.make_node("Add", ["b", "bias"], ["c"])]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], "one"),
        *second,
        helper.make_node("Sub", ["a", "c"], ["d"]),
        helper.make_node("MatMul", ["d", "narrow"], ["y"], "three"),
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", 1, ["batch", 64])],
        [helper.make_tensor_value_info("y", 1, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _rounded(x: np.ndarray) -> np.ndarray:
    """A tensor as 8 bits with a scale for all of it, from 0 or its least value to 0 or its greatest."""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = (high - low) / 255
    zero_point = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero_point, 0, 255) - zero_point) * scale)


def _rounded_weights(weights: np.ndarray) -> np.ndarray:
    scale = np.abs(weights).max(axis=0) / GREATEST
    return np.asarray(np.rint(weights / scale) * scale)


@pytest.mark.parametrize("gemm", [False, True])
def test_gives_what_rounding_inputs_and_weights_gives(
    gemm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emission, "LARGEST", GREATEST)
    x = np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32)
    proto = dynamic(_network(gemm=gemm))
    onnx.checker.check_model(proto)
    save(proto, tmp_path / "model.onnx")
    rounded = _rounded(x.astype(np.float64))
    expected = (rounded @ _rounded_weights(WIDE[0]) - rounded @ _rounded_weights(WIDE[1]) - BIAS) @ NARROW
    for optimize in (False, True):
        (found,) = run(tmp_path / "model.onnx", [{"x": x}], optimize=optimize)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_layers_that_read_one_tensor_share_its_quantization_and_are_fused_with_their_bias(tmp_path: Path) -> None:
    proto = dynamic(_network())
    assert Counter(node.op_type for node in proto.graph.node)["DynamicQuantizeLinear"] == 1
    kinds = Counter(node.op_type for node in optimized(proto, tmp_path).node)
    assert kinds == {"DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 2, "Sub": 1, "MatMul": 1}


def test_a_layer_alone_is_one_operator(tmp_path: Path) -> None:
    proto = dynamic(_network(), ignore=["o*"])
    kinds = Counter(node.op_type for node in optimized(proto, tmp_path).node)
    assert kinds == {"DynamicQuantizeMatMul": 1, "Sub": 1, "MatMul": 2}


def test_the_float_graph_is_left_alone() -> None:
    network = _network()
    before = network.SerializeToString()
    dynamic(network)
    assert network.SerializeToString() == before
