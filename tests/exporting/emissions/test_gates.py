from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor, nn

from compress.exporting.emissions.gates import add_hard_sigmoids, widen_gates
from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.graph import Graph
from compress.exporting.parity import check, run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.exporting.emissions.transformer_graphs import optimized
from tests.quantization.networks import deployment


class Gated(nn.Module):
    """Hard-swish, SiLU and squeeze-excite, as MobileNetV3 and EfficientNet have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.SiLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 8, 1))
        self.project = nn.Conv2d(8, 8, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.depth(self.stem(x))
        result: Tensor = self.head(self.project(x * self.squeeze(x).sigmoid()))
        return result


@functools.cache
def _graph() -> tuple[ModelProto, np.ndarray, np.ndarray]:
    """The canonical graph of the network, images, and the quantized network's answers in torch."""
    torch.manual_seed(0)
    module, x = Gated().eval(), torch.randn(16, 3, 16, 16)
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    with torch.no_grad():
        return canonical(model, described, example_inputs(described), 18), x.numpy(), model(x).numpy()


def test_everything_runs_in_int8_and_no_layout_changes_in_between(tmp_path: Path) -> None:
    kinds = Counter(node.op_type for node in optimized(EMISSIONS["ort-x86"](_graph()[0]), tmp_path).node)
    assert kinds["QLinearConv"] == 5
    assert kinds["QLinearMul"] == 4  # hard-swish, two SiLU, the gate
    assert kinds["QLinearSigmoid"] == 3
    assert kinds["QLinearAdd"] == 1  # the hard sigmoid
    assert kinds["Tile"] == 1
    assert kinds["QuantizeLinear"] == 1
    assert kinds["Sigmoid"] == kinds["HardSigmoid"] == kinds["Mul"] == kinds["QuickGelu"] == 0
    assert kinds["Transpose"] <= 2


@pytest.mark.parametrize("emission", ["ort-x86", "ort-arm"])
def test_gives_the_quantized_networks_answers(emission: str, tmp_path: Path) -> None:
    proto, x, expected = _graph()
    save(EMISSIONS[emission](proto), tmp_path / "model.onnx")
    found = check(tmp_path / "model.onnx", [{"input": x}], [expected], integer=True)
    assert found.within_step >= 0.99


def test_factors_in_whole_rows_change_no_number(tmp_path: Path) -> None:
    proto, x, _ = _graph()
    plain, wide = rewrite(proto, unsigned=True), rewrite(proto, unsigned=True)
    widen_gates(wide)
    assert Counter(node.op_type for node in wide.graph.node)["Tile"] == 1
    answers = []
    for graph in (plain, wide):
        save(graph, tmp_path / "model.onnx")
        answers += run(tmp_path / "model.onnx", [{"input": x}], optimize=True)
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_hard_sigmoid_as_a_saturating_sum_gives_the_same_integers(kind: type, tmp_path: Path) -> None:
    """Of all 256 inputs at 20 scales; a tie may be rounded to the other side."""
    lowest = np.iinfo(kind).min
    every = np.arange(256).astype(np.int64) + lowest
    different = 0
    for i in range(20):
        proto = _hard_sigmoid(np.float32(0.011 + 0.0043 * i), kind, zero_point=lowest + 60 + 7 * i)
        before = _run(proto, every.astype(kind), tmp_path)
        graph = Graph(proto.graph)
        add_hard_sigmoids(graph)
        graph.write()
        assert not any(node.op_type == "HardSigmoid" for node in proto.graph.node)
        steps = np.abs(_run(proto, every.astype(kind), tmp_path).astype(int) - before.astype(int))
        assert steps.max() <= 1
        different += int(np.count_nonzero(steps))
    assert different <= 0.01 * 20 * 256


def test_a_hard_sigmoid_whose_range_is_wider_than_its_values_stays() -> None:
    proto = _hard_sigmoid(np.float32(0.05), np.uint8, zero_point=100, step=1.01 / 255)
    graph = Graph(proto.graph)
    add_hard_sigmoids(graph)
    assert any(node.op_type == "HardSigmoid" for node in graph.nodes)


def _hard_sigmoid(scale: np.float32, kind: type, *, zero_point: int, step: float = 0.999 / 255) -> ModelProto:
    arrays = {
        "s": scale, "z": kind(zero_point), "step": np.float32(step), "lowest": kind(np.iinfo(kind).min),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("HardSigmoid", ["a"], ["b"], "gate", alpha=1 / 6, beta=0.5),
        helper.make_node("QuantizeLinear", ["b", "step", "lowest"], ["y"]),
    ]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("x", element, [256])],
        [helper.make_tensor_value_info("y", element, [256])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _run(proto: ModelProto, x: np.ndarray, folder: Path) -> np.ndarray:
    onnx.checker.check_model(proto)
    save(proto, folder / "gate.onnx")
    return run(folder / "gate.onnx", [{"x": x}], optimize=False)[0]
