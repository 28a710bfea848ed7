from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.transformers.float16 import convert_float_to_float16

from compress.errors import StageError
from compress.exporting.canonical import split
from compress.exporting.emissions import bf16, fp16
from compress.exporting.emissions.narrow import narrow, narrowed
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from compress.exporting.widen import widened
from tests.exporting.canonical_graphs import canonical_graph

HALF = TensorProto.FLOAT16


def small(nodes: list[NodeProto], arrays: dict[str, np.ndarray], outputs: str = "y", opset: int = 18) -> ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in f"x{outputs}"]
    items = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], items)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def answers(proto: ModelProto, x: np.ndarray, folder: Path, name: str = "input") -> np.ndarray:
    save(proto, folder / "model.onnx")
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    return run(folder / "model.onnx", [{name: x}], optimize=False)[0]


@pytest.mark.parametrize("name", ["residual", "encoder-decoder", "mobile", "pre-activation", "perceptron"])
def test_float16_gives_what_the_runtimes_own_converter_gives(name: str, tmp_path: Path) -> None:
    proto, _, x = canonical_graph(name)
    save(convert_float_to_float16(split(proto)[0], keep_io_types=True), tmp_path / "theirs.onnx")
    (theirs,) = run(tmp_path / "theirs.onnx", [{"input": x.numpy()}], optimize=False)
    ours = answers(fp16.emit(proto), x.numpy(), tmp_path)
    assert np.abs(ours - theirs).max() <= np.ptp(theirs) * 2.0**-11


@pytest.mark.parametrize("name", ["residual", "encoder-decoder", "mobile", "pre-activation", "perceptron"])
@pytest.mark.parametrize(("emit", "unit"), [(fp16.emit, 2.0**-11), (bf16.emit, 2.0**-8)])
def test_answers_move_by_a_few_roundings(  # type: ignore[no-untyped-def]
    name: str, emit, unit: float, tmp_path: Path
) -> None:
    proto, _, x = canonical_graph(name)
    exact = answers(split(proto)[0], x.numpy(), tmp_path)
    found = answers(widened(emit(proto)), x.numpy(), tmp_path)
    assert 0 < np.abs(found - exact).max() <= np.ptp(exact) * 2 * unit


@pytest.mark.parametrize(("emit", "dtype"), [(fp16.emit, np.float16), (bf16.emit, bfloat16)])
def test_weights_take_half_the_bytes_and_are_the_nearest_numbers(emit, dtype) -> None:  # type: ignore[no-untyped-def]
    wide = split(canonical_graph("mobile")[0])[0]
    before, after = (
        {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer} for proto in (wide, emit(wide))
    )
    floats = [name for name, array in before.items() if array.dtype == np.float32]
    assert len(floats) > 8
    for name in floats:
        assert after[f"{name}_narrow"].dtype == dtype
        np.testing.assert_array_equal(after[f"{name}_narrow"], before[name].astype(dtype))


def test_what_the_definition_keeps_in_float32_stays_so(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"),
        helper.make_node("Range", ["start", "limit", "delta"], ["r"]),
        helper.make_node("Add", ["y0", "r"], ["z"]),
    ]
    nodes[0].output[0] = "y0"
    arrays = {"scales": np.array([1, 1, 2, 2], np.float32)}
    arrays |= {name: np.array(value, np.float32) for name, value in (("start", 0), ("limit", 8), ("delta", 1))}
    proto = small(nodes, arrays, "z")
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    result = narrow(proto, HALF)
    types = {item.name: item.data_type for item in result.graph.initializer}
    assert set(types.values()) == {TensorProto.FLOAT}
    np.testing.assert_array_equal(answers(result, x, tmp_path, "x"), answers(proto, x, tmp_path, "x"))


def test_constants_casts_and_outputs_that_are_read_again(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(2, np.float32))),
        helper.make_node("Mul", ["x", "c"], ["y"]),
        helper.make_node("Cast", ["y"], ["i"], to=TensorProto.INT64),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "y"], ["z"]),
    ]
    proto = small(nodes, {}, "yz")
    x = np.linspace(-3, 3, 8, dtype=np.float32).reshape(1, 2, 2, 2)
    result = narrow(proto, HALF)
    onnx.checker.check_model(result, full_check=True)
    y, z = ReferenceEvaluator(result).run(None, {"x": x})
    doubled = (x.astype(np.float16) * np.float16(2)).astype(np.float32)
    np.testing.assert_array_equal(y, doubled)
    np.testing.assert_array_equal(z, (np.trunc(doubled) + doubled).astype(np.float16).astype(np.float32))


def test_a_mask_becomes_the_greatest_number_and_a_weight_out_of_range_is_refused() -> None:
    mask = np.array([0, -3.4e38, -np.inf], np.float32)
    assert narrowed("mask", mask, HALF).tolist() == [0, -65504, -np.inf]
    with pytest.raises(StageError, match=r"head\.weight holds 7e\+04, and float16 ends at 65504: emit bf16"):
        narrowed("head.weight", np.array([1, -7e4], np.float32), HALF)


def test_graphs_within_graphs_stay_in_float32(tmp_path: Path) -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["m", "w"], ["b"])],
            "branch", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, [None] * 4)],
        )
        for kind in ("Add", "Sub")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["m"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["on"]),
        helper.make_node("If", ["on"], ["i"], "choice", then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Mul", ["i", "w"], ["y"]),
    ]
    proto = small(nodes, {"w": np.full((1, 1, 2, 2), 1 / 3, np.float32), "zero": np.array(0, np.float32)})
    result = narrow(proto, HALF)
    written = {name: item for item in result.graph.node for name in item.output}
    assert written["i_narrow"].op_type == written["m_float32"].op_type == "Cast"
    for x in (np.ones((1, 1, 2, 2), np.float32), -np.ones((1, 1, 2, 2), np.float32)):
        exact = answers(proto, x, tmp_path, "x")
        found = answers(result, x, tmp_path, "x")
        assert 0 < np.abs(found - exact).max() < 2.0**-10


def test_weights_that_old_files_list_among_the_inputs_are_narrowed(tmp_path: Path) -> None:
    proto = small([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.full((1, 1, 2, 2), 3, np.float32)})
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 1, 2, 2]))
    proto.ir_version = 3
    result = narrow(proto, HALF)
    assert [value.name for value in result.graph.input] == ["x"]
    assert [item.data_type for item in result.graph.initializer] == [HALF]
    x = np.ones((1, 1, 2, 2), np.float32)
    np.testing.assert_array_equal(answers(result, x, tmp_path, "x"), 3 * x)
