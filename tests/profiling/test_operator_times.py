from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.profiling.operator_times import by_kind, layer_channels, left_in_float, operator_times, what_costs
from compress.targets.settings import TargetSettings


def kinds(**microseconds: float) -> list[dict[str, Any]]:
    return [{"operator": name, "count": 2, "microseconds": spent} for name, spent in microseconds.items()]


def network(path: Path, size: int | str = 32) -> Path:
    """A convolution of 24 channels whose weights are dequantized, then one of 8, then a linear layer of 10."""
    generator = np.random.default_rng(0)

    def constant(name: str, *shape: int, integers: bool = False) -> onnx.TensorProto:
        values = generator.standard_normal(shape)
        return numpy_helper.from_array(values.astype(np.int8) if integers else values.astype(np.float32), name)

    nodes = [
        helper.make_node("DequantizeLinear", ["w0", "scale"], ["w0_float"], axis=0),
        helper.make_node("Conv", ["input", "w0_float"], ["x0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x0"], ["x1"]),
        helper.make_node("Conv", ["x1", "w1"], ["x2"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["x2"], ["x3"]),
        helper.make_node("Flatten", ["x3"], ["x4"]),
        helper.make_node("Gemm", ["x4", "w2"], ["output"], transB=1),
    ]
    weights = [
        constant("w0", 24, 3, 3, 3, integers=True), numpy_helper.from_array(np.ones(24, np.float32), "scale"),
        constant("w1", 8, 24, 3, 3), constant("w2", 10, 8),
    ]  # fmt: skip
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "network", [image], [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_the_time_of_a_file_is_told_by_kind(tmp_path: Path) -> None:
    files = {"fixed": network(tmp_path / "fixed.onnx"), "open": network(tmp_path / "open.onnx", "side")}
    found = operator_times(files, TargetSettings(), sizes={"open": {"side": 64}}, seconds=0.05)
    assert list(found) == ["fixed", "open"]
    for rows in found.values():
        spent = [row["microseconds"] for row in rows]
        assert spent == sorted(spent, reverse=True) and min(spent) >= 0
        assert sum(row["count"] for row in rows if row["operator"] in ("Conv", "FusedConv")) == 2
        assert rows[0]["operator"] in ("Conv", "FusedConv")  # where the arithmetic is
    dearest = {name: sum(row["microseconds"] for row in rows) for name, rows in found.items()}
    assert dearest["open"] > 2 * dearest["fixed"]  # four times the pixels


def test_kinds_are_summed() -> None:
    single = [("a", "Conv", 5.0), ("b", "Add", 9.0), ("c", "Conv", 7.5), ("d", "", 1.0)]
    rows = by_kind([{"name": name, "operator": kind, "microseconds": spent} for name, kind, spent in single])
    assert [tuple(row.values()) for row in rows] == [("Conv", 2, 12.5), ("Add", 1, 9.0), ("other", 1, 1.0)]


def test_boundaries_float_layers_and_moves_are_named_the_dearest_first() -> None:
    int8 = kinds(QLinearConv=50, QuantizeLinear=6, DequantizeLinear=4, Conv=30, Transpose=5, QLinearAdd=5)
    assert what_costs(int8, kinds(Conv=80)) == [
        "layers in float (2 Conv): 30% of its time",
        "from float to int8 or back (2 QuantizeLinear, 2 DequantizeLinear): 10% of its time",
        "numbers only moved in memory (2 Transpose): 5% of its time",
    ]


def test_what_only_int8_needs_is_named_and_layers_in_int8_are_no_cost() -> None:
    assert what_costs(kinds(QLinearConv=60, QLinearSigmoid=40), kinds(Conv=50, Sigmoid=3)) == [
        "2 QLinearSigmoid: 40% of its time"
    ]
    assert what_costs(kinds(QLinearConv=60, Pad=40), kinds(Conv=50, Pad=3)) == []
    assert what_costs([], []) == []


def test_operators_left_in_float_are_told_by_reason() -> None:
    rows = [{"name": f"n{at}", "operator": "MatMul", "reason": "both sides are activations"} for at in range(5)]
    rows.append({"name": "up", "operator": "ConvTranspose", "reason": "there is no kernel"})
    assert left_in_float(rows) == [
        "not in int8: n0 (MatMul), n1 (MatMul), n2 (MatMul) and 2 more: both sides are activations",
        "not in int8: up (ConvTranspose): there is no kernel",
    ]
    assert what_costs(kinds(QLinearConv=1), [], rows)[:2] == left_in_float(rows)


@pytest.mark.parametrize(
    ("channels", "said"), [([8, 8, 64], "2 of 3 layers have"), ([4, 16, 16], "1 of 3 layers has"), ([8] + 4 * [16], "")]
)
def test_many_narrow_layers_are_a_reason(channels: list[int], said: str) -> None:
    found = what_costs(kinds(QLinearConv=1), [], channels=channels)
    assert found == ([f"{said} fewer than 16 channels, too few for int8 to pay"] if said else [])


def test_channels_are_read_from_constants(tmp_path: Path) -> None:
    assert layer_channels(network(tmp_path / "network.onnx")) == [24, 8, 10]
