from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto

from compress.exporting import torch_onnx
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save, to_proto
from tests.exporting.text_exports import deployment
from tests.models.text_networks import inputs, made

TASK = "text-classification"


@pytest.fixture(scope="module")
def graphs() -> tuple[ModelProto, ModelProto]:
    """A BERT of one layer as the exporter writes it, and simplified."""
    _, module = made("bert", TASK, num_hidden_layers=1)
    described = deployment(module, TASK)
    simple = to_proto(module, described, example_inputs(described))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_onnx, "simplify", lambda graph: None)
        return to_proto(module, described, example_inputs(described)), simple


def test_the_numbers_stay_the_same_bits(graphs: tuple[ModelProto, ModelProto], tmp_path: Path) -> None:
    answers = []
    for number, proto in enumerate(graphs):
        path = tmp_path / f"{number}.onnx"
        save(proto, path)
        feeds = [
            dict(zip(("input_ids", "attention_mask"), inputs(TASK, lengths), strict=True)) for lengths in ([3], [9, 24])
        ]
        answers.append(run(path, feeds, optimize=False))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keys_are_transposed_once_and_gelu_is_fused(graphs: tuple[ModelProto, ModelProto], tmp_path: Path) -> None:
    before, after = (Counter(node.op_type for node in proto.graph.node) for proto in graphs)
    assert before["Reshape"] - after["Reshape"] == 2
    assert before["Transpose"] == after["Transpose"]
    save(graphs[1], tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    fused = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert fused["Erf"] == 0
    assert fused["Gelu"] + fused["BiasGelu"] == 1


def test_a_graph_without_these_patterns_stays_byte_for_byte(graphs: tuple[ModelProto, ModelProto]) -> None:
    from compress.exporting.simplify import simplify

    simple = graphs[1]
    again = ModelProto()
    again.CopyFrom(simple)
    simplify(again.graph)
    assert again.SerializeToString(deterministic=True) == simple.SerializeToString(deterministic=True)
