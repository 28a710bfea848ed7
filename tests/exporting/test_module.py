from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import compress
from compress.data.dataset import Data
from compress.errors import UsageError
from compress.profiling.answers import answers
from compress.targets.settings import TargetSettings

TASK = "text-classification"


class Reader(nn.Module):
    """The mean of what stands for each token, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(300, 8), nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows = self.table(ids) * mask.unsqueeze(-1)
        result: torch.Tensor = self.head(rows.sum(1) / mask.sum(1, keepdim=True))
        return result


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("texts")
    lines = [f"{'good' if i % 2 else 'bad'} {'very ' * (i % 3)}film\t{i % 2}" for i in range(80)]
    (folder / "films.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    return compress.load_data({
        "source": {"table": {"path": str(folder / "films.tsv"), "input": "text", "target": "label"}},
        "text": {"tokenizer": {"bpe": {"size": 290}}, "max_length": 16},
    })  # fmt: skip


def test_a_file_of_fixed_length_gives_the_answers_of_one_of_any(texts: Data, tmp_path: Path) -> None:
    network = Reader()
    any_length = compress.export(network, texts, tmp_path / "any", task=TASK)["fp32"]
    fixed = compress.export(network, texts, tmp_path / "fixed", task=TASK, axes={"sequence": 24}, batch=2, mobile=True)
    graph = onnx.load(fixed["fp32"]).graph
    shapes = [[axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.input]
    assert shapes == [[2, 24], [2, 24]]
    target = TargetSettings()
    found, expected = (answers(path, texts, texts.test, target) for path in (fixed["fp32"], any_length))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "fixed").iterdir() if "json" not in path.name) == [
        "fp32.onnx", "fp32.ort", "fp32.required_operators.config"
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "fixed" / "fp32.ort"), providers=["CPUExecutionProvider"])
    assert [item.shape for item in session.get_inputs()] == shapes


def test_axes_that_are_not_there_or_too_short_are_refused(texts: Data, tmp_path: Path) -> None:
    for axes, message in (({"tokens": 8}, "unknown axis 'tokens'"), ({"sequence": 8}, "texts have up to 16 tokens")):
        with pytest.raises(UsageError, match=message):
            compress.export(Reader(), texts, tmp_path, task=TASK, axes=axes)


def test_a_float_network_becomes_float_files_of_each_precision_and_no_int8_one(texts: Data, tmp_path: Path) -> None:
    files = compress.export(Reader(), texts, tmp_path, task=TASK, emit=["fp32", "fp16", "bf16"])
    types = [{item.data_type for item in onnx.load(path).graph.initializer} for path in files.values()]
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    assert [found - {onnx.TensorProto.INT64} for found in types] == [{kind} for kind in kinds]
    with pytest.raises(UsageError, match="tensorrt is an int8 file, and the network is float"):
        compress.export(Reader(), texts, tmp_path, task=TASK, emit=["tensorrt"])
