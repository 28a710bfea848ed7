from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compress.exporting.emissions.linear import fuse_linear
from tests.exporting.emissions.transformer_graphs import answers, optimized, quantized_bert


@pytest.mark.parametrize("unsigned", [True, False])
def test_products_and_biases_become_one_operator_of_the_same_numbers(unsigned: bool, tmp_path: Path) -> None:
    before = quantized_bert(unsigned=unsigned)
    after = quantized_bert(unsigned=unsigned)
    fuse_linear(after)
    onnx.checker.check_model(after)
    kinds, fused = (Counter(node.op_type for node in proto.graph.node) for proto in (before, after))
    assert fused["MatMulIntegerToFloat"] == 6
    assert kinds["MatMul"] - fused["MatMul"] == 6
    assert kinds["Add"] - fused["Add"] == 6
    found, expected = answers(after, tmp_path), answers(before, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_gelu_is_fused_without_a_bias_of_its_own(tmp_path: Path) -> None:
    proto = quantized_bert()
    fuse_linear(proto)
    kinds = Counter(node.op_type for node in optimized(proto, tmp_path).node)
    assert kinds["Gelu"] == 1
    assert kinds["BiasGelu"] == kinds["Erf"] == 0
    assert kinds["MatMulIntegerToFloat"] == 6


def test_a_product_that_is_quantized_right_behind_stays_for_another_kernel() -> None:
    rows = _product(quantized=True)
    fuse_linear(rows)
    assert [node.op_type for node in rows.graph.node].count("MatMul") == 1
    assert all(not item.domain for item in rows.opset_import)


def test_weights_that_are_not_symmetric_stay() -> None:
    proto = _product(quantized=False, weight_zero_point=3)
    fuse_linear(proto)
    assert [node.op_type for node in proto.graph.node].count("MatMul") == 1


def test_a_product_without_bias_is_fused_too() -> None:
    proto = _product(quantized=False)
    fuse_linear(proto)
    (node,) = (node for node in proto.graph.node if node.op_type == "MatMulIntegerToFloat")
    assert len(node.input) == 5


def _product(*, quantized: bool, weight_zero_point: int = 0) -> onnx.ModelProto:
    """X (2, 4) times 4 x 3, dequantized, then negated or quantized."""
    arrays = {
        "s": np.float32(0.1), "z": np.uint8(7), "w": np.arange(12, dtype=np.int8).reshape(4, 3),
        "ws": np.ones(3, np.float32), "wz": np.full(3, weight_zero_point, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["b"], axis=1),
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["y"])
        if quantized
        else helper.make_node("Neg", ["c"], ["y"]),
    ]
    kind = onnx.TensorProto.UINT8 if quantized else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [2, 4])],
        [helper.make_tensor_value_info("y", kind, [2, 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
