from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compress.errors import StageError
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.mobile import write_mobile
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph


@pytest.mark.parametrize("emission", ["fp32", "fp16", "ort-x86", "ort-arm"])
def test_the_mobile_file_loads_gives_the_same_bits_and_lists_its_operators(emission: str, tmp_path: Path) -> None:
    proto, _, x = canonical_graph("mobile", symmetric=False, weight_bits=7)
    save(EMISSIONS[emission](proto), tmp_path / "model.onnx")
    path, operators = write_mobile(tmp_path / "model.onnx", {"input": x.numpy()}, signed=emission == "ort-arm")
    assert path.read_bytes()[4:8] == b"ORTM"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if emission == "ort-arm":
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    reference = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    (found,), (expected,) = (each.run(None, {"input": x.numpy()[:7]}) for each in (session, reference))
    assert np.array_equal(found, expected)
    text = operators.read_text()
    assert ("QLinearConv" in text) == emission.startswith("ort-")
    assert str(tmp_path) not in text
    assert text.splitlines()[1] == "# - model.ort"


def test_what_the_runtime_cannot_run_is_one_message(tmp_path: Path) -> None:
    save(EMISSIONS["bf16"](canonical_graph("mobile", symmetric=False, weight_bits=7)[0]), tmp_path / "model.onnx")
    with pytest.raises(StageError, match=r"cannot make a mobile file of model\.onnx: .*NOT_IMPLEMENTED"):
        write_mobile(tmp_path / "model.onnx", {})
