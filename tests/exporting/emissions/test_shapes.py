from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.shapes import merge_shortcuts, pad_input_channels
from compress.exporting.graph import Graph
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph


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


def test_what_needs_no_padding_gets_none() -> None:
    proto, _, _ = canonical_graph("perceptron")
    graph = rewrite(proto, unsigned=True, reshape=(merge_shortcuts, pad_input_channels)).graph
    assert not any(node.op_type == "Pad" for node in graph.node)


def _answers(proto, x: np.ndarray, folder: Path) -> bytes:  # type: ignore[no-untyped-def]
    save(proto, folder / "model.onnx")
    return run(folder / "model.onnx", [{"input": x}], optimize=True)[0].tobytes()
