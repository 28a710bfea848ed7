from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.shapes import merge_shortcuts, pad_input_channels, shuffle_by_convolution
from compress.exporting.graph import Graph
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.exporting.canonical_graphs import canonical_graph
from tests.processor import WEIGHT_BITS
from tests.quantization.networks import deployment


def test_shortcuts_become_one_convolution_of_exactly_the_same_numbers(tmp_path: Path) -> None:
    proto, _, x = canonical_graph("residual")
    plain, merged = rewrite(proto, unsigned=True), rewrite(proto, unsigned=True, reshape=(merge_shortcuts,))
    before, after = (Counter(node.op_type for node in graph.graph.node) for graph in (plain, merged))
    assert before["Slice"] >= 1
    assert before["Pad"] == 1
    assert after["Slice"] == after["Pad"] == 0
    assert after["Conv"] == before["Conv"] + 1
    assert _answers(plain, x.numpy(), tmp_path) == _answers(merged, x.numpy(), tmp_path)


def test_input_channels_come_in_fours_and_change_no_number(tmp_path: Path) -> None:
    proto, _, x = canonical_graph("residual")
    plain, padded = rewrite(proto, unsigned=True), rewrite(proto, unsigned=True, reshape=(pad_input_channels,))
    graph = Graph(padded.graph)
    first = next(node for node in graph.nodes if node.op_type == "Conv")
    assert graph.arrays[graph.writers()[first.input[1]].input[0]].shape[1] == 4
    assert _answers(plain, x.numpy(), tmp_path) == _answers(padded, x.numpy(), tmp_path)


class Shuffling(nn.Module):
    """Two convolutions with a channel shuffle of three groups between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        y = y.reshape(-1, 3, 4, *y.shape[2:]).transpose(1, 2).flatten(1, 2)
        z: torch.Tensor = self.second(y).mean((2, 3))
        return z


def test_a_channel_shuffle_becomes_one_convolution_of_exactly_the_same_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Shuffling().eval(), torch.randn(8, 4, 10, 10)
    model = prepare(module, (x[:2],), weight_bits=WEIGHT_BITS)
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    proto = canonical(model, described, example_inputs(described), 18)
    plain, merged = rewrite(proto, unsigned=True), rewrite(proto, unsigned=True, reshape=(shuffle_by_convolution,))
    before, after = (Counter(node.op_type for node in graph.graph.node) for graph in (plain, merged))
    assert (before["Transpose"], after["Transpose"]) == (1, 0)
    assert after["Conv"] == before["Conv"] + 1
    assert _answers(plain, x.numpy(), tmp_path) == _answers(merged, x.numpy(), tmp_path)


def test_what_needs_no_padding_gets_none() -> None:
    proto, _, _ = canonical_graph("perceptron")
    graph = rewrite(proto, unsigned=True, reshape=(merge_shortcuts, pad_input_channels)).graph
    assert not any(node.op_type == "Pad" for node in graph.node)


def _answers(proto, x: np.ndarray, folder: Path) -> bytes:  # type: ignore[no-untyped-def]
    save(proto, folder / "model.onnx")
    return run(folder / "model.onnx", [{"input": x}], optimize=True)[0].tobytes()
