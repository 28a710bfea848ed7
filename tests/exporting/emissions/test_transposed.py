from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import nn
from torch.nn import functional

from compress.exporting.canonical import scale_of
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.emissions.transposed import Axis, phases
from compress.exporting.graph import Graph, attribute
from compress.exporting.int8_share import int8_share
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from compress.quantization.weighted import Weighted
from tests.processor import WEIGHT_BITS
from tests.quantization.networks import deployment

SETTINGS = [
    # kernel, stride, padding, output padding
    (2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1), (3, 2, 0, 0), (3, 1, 1, 0), (1, 1, 0, 0), (5, 3, 2, 2), (2, 3, 0, 0),
    (1, 2, 0, 1), (4, 4, 0, 0), (6, 3, 4, 1), (7, 2, 3, 1), (3, 2, 2, 0), (3, 3, 2, 0),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding", "added"), SETTINGS)
def test_a_convolution_and_a_rearrangement_are_the_transposed_convolution(
    kernel: int, stride: int, padding: int, added: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 5, kernel, dtype=torch.float64, generator=generator)
    expected = functional.conv_transpose1d(x, weight, None, stride, padding, added)
    axis = Axis.of(kernel, stride, (padding, padding), added)
    padded = functional.pad(x, (axis.before, axis.after))
    found = functional.conv1d(padded, torch.from_numpy(phases(weight.numpy(), [axis])))
    assert found.shape[2] == axis.places(6)
    line = found.reshape(2, stride, 5, -1).permute(0, 2, 3, 1).flatten(2)
    line = line[..., axis.skipped : line.shape[2] - axis.left_over]
    assert line.shape == expected.shape
    assert torch.allclose(line, expected)


def test_it_takes_no_more_taps_than_the_kernel_has_for_one_phase() -> None:
    for kernel, stride, padding, added in SETTINGS:
        if padding < kernel and added < stride:
            assert Axis.of(kernel, stride, (padding, padding), added).taps <= max(-(-kernel // stride), 2)
    assert Axis.of(4, 2, (1, 1), 0).taps == 2
    assert Axis.of(2, 2, (0, 0), 0).taps == 1


class Up(nn.Module):
    """Two convolutions with a transposed one between them."""

    def __init__(self, dimensions: int, **settings: Any) -> None:
        super().__init__()
        conv: Any = {1: nn.Conv1d, 2: nn.Conv2d}[dimensions]
        transposed: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[dimensions]
        norm: Any = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dimensions]
        self.first, self.up, self.norm = conv(4, 8, 3, padding=1), transposed(8, 6, **settings), norm(6)
        self.last = conv(6, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.up(torch.relu(self.first(x)))))
        return self.last(y)  # type: ignore[no-any-return]


@functools.cache
def _canonical(case: str) -> tuple[ModelProto, torch.Tensor]:
    dimensions, settings = CASES[case]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, x = Up(dimensions, **settings), torch.randn(16, *(4, 9, 7)[: dimensions + 1])
    with torch.no_grad():
        for _ in range(20):
            module.train()(x)
    model = prepare(module.eval(), (x[:2],), symmetric=case == "symmetric", weight_bits=WEIGHT_BITS)
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    return canonical(model, described, example_inputs(described), 18), x


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "kernel is stride": (2, {"kernel_size": 2, "stride": 2}),
    "uneven": (2, {"kernel_size": (3, 4), "stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}),
    "symmetric": (2, {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False}),
    "one dimension": (1, {"kernel_size": 5, "stride": 2, "padding": 2}),
}


@pytest.mark.parametrize("emission", ["ort-x86", "ort-arm"])
@pytest.mark.parametrize("case", CASES)
def test_it_runs_in_int8_and_gives_the_same_numbers(case: str, emission: str, tmp_path: Path) -> None:
    proto, x = _canonical(case)
    assert sum(node.op_type == "ConvTranspose" for node in proto.graph.node) == 1
    emitted = EMISSIONS[emission](proto)
    counts = Counter(node.op_type for node in emitted.graph.node)
    assert (counts["Conv"], counts["ConvTranspose"], counts["Max"]) == (3, 0, 0)
    expected, found = _answers(proto, x, tmp_path, False), _answers(emitted, x, tmp_path, True)
    graph = Graph(proto.graph)
    steps = np.abs(found - expected) / scale_of(graph, graph.writers()["output"]).scale
    assert steps.max() < 1.01
    assert np.mean(steps > 0.5) < 0.01
    shared = int8_share(tmp_path / "model.onnx", signed=emission == "ort-arm")
    assert (shared.integer, shared.total) == (3, 3)


def test_weights_keep_their_scales_per_output_channel_in_every_file() -> None:
    for proto in (_canonical("symmetric")[0], EMISSIONS["tensorrt"](_canonical("symmetric")[0])):
        graph = Graph(proto.graph)
        (node,) = [node for node in graph.nodes if node.op_type == "ConvTranspose"]
        weight = graph.writers()[node.input[1]]
        assert (weight.op_type, attribute(weight, "axis")) == ("DequantizeLinear", 1)
        assert graph.arrays[weight.input[1]].shape == (6,)


@pytest.mark.parametrize("settings", [{"groups": 2}, {"dilation": 2}])
def test_with_groups_or_dilation_it_stays_in_float(settings: dict[str, int]) -> None:
    module = Up(1, kernel_size=2, stride=2, **settings).eval()
    model = prepare(module, (torch.randn(2, 4, 9),))
    assert [layer.bits for layer in model.modules() if isinstance(layer, Weighted)] == [8, 8]


def _answers(proto: ModelProto, x: torch.Tensor, folder: Path, optimize: bool) -> np.ndarray:
    save(proto, folder / "model.onnx")
    (found,) = run(folder / "model.onnx", [{"input": x.numpy()}], optimize=optimize)
    return np.asarray(found)
