"""The graphs are valid, each layer in them is the one that was asked, and int8 ones run in integer kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.torch_onnx import save
from compress.pruning.latency.micro import MARK, layers_model
from tests.pruning.latency.layer_kinds import KINDS, answer, points

BATCH = 2
FLOAT = ("attention", "narrow_attention", "grouped_transpose")
"""What ONNX Runtime has no integer kernel for, or what int8 files leave as it is."""


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_layer_has_the_channels_that_were_asked(name: str, int8: bool) -> None:
    kind = KINDS[name]
    graph = layers_model(kind, points(kind), BATCH, int8)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs()}
    for number, ((inputs, outputs), found) in enumerate(zip(points(kind), session.run(None, feeds), strict=True)):
        assert found.shape == tuple(answer(kind, BATCH, inputs, outputs).shape)
        if kind.operator == "attention":
            heads = kind.heads or inputs // kind.head
            shape = feeds[f"{MARK}{number}_query"].shape
            assert shape == (BATCH * kind.size[0], heads, kind.size[1], inputs // heads)
        else:
            assert feeds[f"{MARK}{number}_x"].shape[-1 if kind.operator == "linear" else 1] == inputs


@pytest.mark.parametrize("emission", ["ort-x86", "ort-x86-avx2"])
@pytest.mark.parametrize("name", KINDS)
def test_int8_layers_run_in_integer_kernels(name: str, emission: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    graph = layers_model(kind, points(kind), BATCH, int8=True)
    save(graph if kind.operator == "attention" else EMISSIONS[emission](graph), tmp_path / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), options, providers=["CPUExecutionProvider"])
    made = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    integer = [operator for operator in made if operator in ("QLinearConv", "QGemm", "MatMulIntegerToFloat")]
    assert len(integer) == (0 if name in FLOAT else len(points(kind)))
    assert ("Conv" in made or "Gemm" in made or "MatMul" in made) == (kind.operator == "attention")
    assert "Relu" not in made or name in FLOAT


def test_the_same_graph_each_time() -> None:
    kind = KINDS["conv"]
    one, other = (layers_model(kind, points(kind), BATCH, int8=True).SerializeToString() for _ in range(2))
    assert one == other
