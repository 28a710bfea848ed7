"""Tensors that are never negative, on the symmetric grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import nn

from compress.exporting.emissions import ort_arm, ort_x86
from compress.exporting.emissions.one_sided import greatest_values
from compress.exporting.graph import Graph
from compress.exporting.int8_share import int8_share
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.processor import WEIGHT_BITS
from tests.quantization.networks import deployment

Symmetric = tuple[ModelProto, torch.Tensor, np.ndarray]


class Clipped(nn.Module):
    """A relu, a relu6, a pool, a concat of both, and a signed sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        z = nn.functional.relu6(4 * self.second(nn.functional.max_pool2d(y, 3, 1, 1)))
        w = self.third(torch.cat([y, z], 1))
        answers: torch.Tensor = self.head((w + torch.relu(w)).mean((2, 3)))
        return answers


@pytest.fixture(scope="module")
def symmetric() -> Symmetric:
    torch.manual_seed(0)
    module, x = Clipped().eval(), torch.randn(32, 3, 12, 12)
    model = prepare(module, (x[:2],), symmetric=True, weight_bits=WEIGHT_BITS)
    calibrate(model, lambda: [(x,)], "minmax")
    with torch.no_grad():
        expected = model(x).numpy()
    described = deployment(x, torch.from_numpy(expected))
    return canonical(model, described, example_inputs(described), 18), x, expected


@pytest.mark.parametrize("emission", [ort_x86, ort_arm])
def test_the_file_runs_in_int8_and_gives_the_answers(emission: object, symmetric: Symmetric, tmp_path: Path) -> None:
    proto, x, expected = symmetric
    path = tmp_path / "model.onnx"
    save(emission.emit(proto), path)  # type: ignore[attr-defined]
    share = int8_share(path, signed=emission is ort_arm)
    assert share.share >= 0.8, share.not_int8  # 0.2 without: convolutions with a relu stay float
    assert {row["operator"] for row in share.not_int8}.isdisjoint({"Conv", "FusedConv"})
    for optimize in (False, True):
        (found,) = run(path, [{"input": x.numpy()}], optimize=optimize)
        steps = np.abs(found - expected) / (np.ptp(expected) / 255)
        assert np.mean(steps <= 1) >= 0.99


def test_what_may_be_negative_is_left_alone_and_bounds_are_known(symmetric: Symmetric) -> None:
    proto, _, _ = symmetric
    graph = Graph(proto.graph)
    tops = greatest_values(graph)
    writers = graph.writers()
    relus = [node.output[0] for node in graph.nodes if node.op_type == "Relu"]
    assert all(tops[name] == np.inf for name in relus)
    clips = [node.output[0] for node in graph.nodes if node.op_type == "Clip"]
    assert [tops[name] for name in clips] == [6.0] * len(clips)
    assert "input" not in tops
    sums = [node.output[0] for node in graph.nodes if node.op_type == "Add" and "MatMul" not in str(writers.keys())]
    assert all(name not in tops for name in sums)


def test_an_affine_graph_stays_as_it_is() -> None:
    torch.manual_seed(0)
    module, x = Clipped().eval(), torch.randn(8, 3, 12, 12)
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    names = {
        item.name for item in ort_x86.emit(canonical(model, described, example_inputs(described), 18)).graph.initializer
    }
    assert not any("one_sided" in name for name in names)
