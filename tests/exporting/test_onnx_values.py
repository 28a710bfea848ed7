from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compress.exporting.onnx_values import Coding, OnnxValues

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def graph() -> ModelProto:
    """x -> doubled = 2 x -> sum = doubled + x -> output = -sum."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "x"], ["sum"]),
        helper.make_node("Neg", ["sum"], ["output"]),
    ]
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "output")]
    two = numpy_helper.from_array(np.asarray(2, np.float32), "two")
    made = helper.make_graph(nodes, "g", declared[:1], declared[1:], [two])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_any_tensor_is_computed() -> None:
    found = OnnxValues(graph(), {"x": X})(["sum", "two", "x", "output"])
    np.testing.assert_array_equal(found["sum"], 3 * X)
    np.testing.assert_array_equal(found["output"], -3 * X)
    assert found["two"] == 2
    assert found["x"] is X


def test_a_value_put_in_reaches_what_reads_it() -> None:
    put_in = np.full_like(X, 10)
    found = OnnxValues(graph(), {"x": X})(["output"], {"doubled": put_in})
    np.testing.assert_array_equal(found["output"], -(10 + X))


def test_a_tensor_is_computed_though_a_value_is_put_in_for_its_readers() -> None:
    found = OnnxValues(graph(), {"x": X})(["doubled", "sum"], {"doubled": np.zeros_like(X)})
    np.testing.assert_array_equal(found["doubled"], 2 * X)
    np.testing.assert_array_equal(found["sum"], X)


@pytest.mark.parametrize("coding", [Coding(0.5, 3, np.dtype(np.uint8)), Coding(0.5, -100, np.dtype(np.int8))])
def test_integers_stand_for_floats(coding: Coding) -> None:
    floats = np.array([-1.5, 0, 4], np.float32)
    integers = coding.encode(floats)
    np.testing.assert_array_equal(integers, np.array([-3, 0, 8]) + coding.zero_point)
    assert integers.dtype == coding.dtype
    np.testing.assert_array_equal(coding.decode(integers), floats)


def test_a_margin_is_cut_off_and_put_back() -> None:
    coding = Coding(margin=(0, 1))
    np.testing.assert_array_equal(coding.decode(coding.encode(X)), X)
    assert coding.encode(X).shape == (2, 4)
