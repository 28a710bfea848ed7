"""Files that need no calibration go the whole way: from a pipeline's float network to a report that judges them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.config import read_pipeline
from compress.execute import execute
from compress.exporting.emissions import dynamic
from compress.stage import Silent
from compress.store import Store
from tests.processor import WEIGHT_BITS

PIPELINE = """
threads: 1
data:
  source: {table: {train: train.tsv, test: test.tsv, input: s, target: null}}
  text: {tokenizer: {bpe: {size: 280}}, max_length: 12}
task: causal-lm
models:
  gpt: {transformers: {model_type: gpt2, n_embd: 64, n_layer: 1, n_head: 2}}
stages:
  - train: {epochs: 1, batch_size: 32, learning_rate: 0.003}
  - export: {emit: [ort-dynamic, ort-weights4]}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0}]
"""
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, count in (("train", 200), ("test", 40)):
        rows = [" ".join(generator.choice(WORDS, generator.integers(1, 9))) for _ in range(count)]
        (tmp_path / f"{name}.tsv").write_text("s\n" + "".join(f"{row}\n" for row in rows))
    (tmp_path / "text.yaml").write_text(PIPELINE)
    return tmp_path


def test_files_without_calibration_are_made_measured_and_judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "LARGEST", 2 ** (WEIGHT_BITS - 1) - 1)
    outcome = execute(read_pipeline(folder / "text.yaml"), Store(folder / "store"), folder / "runs", Silent())
    assert outcome is not None
    rows = {row["profile"]: row for row in outcome.report["models"] if row["kind"] == "onnx"}
    precisions = {"fp32": "fp32", "ort-dynamic": "int8", "ort-weights4": "int4"}
    assert {name: row["precision"] for name, row in rows.items()} == precisions
    perplexity = {name: row["metrics"]["perplexity"] for name, row in rows.items()}
    for name, most in (("ort-dynamic", 0.01), ("ort-weights4", 0.2)):
        row = rows[name]
        assert 0 < abs(perplexity[name] / perplexity["fp32"] - 1) < most, name
        assert row["parity"]["within_step"] >= 0.99
        products = [left for left in row["not_int8"] if left["operator"] in ("FusedMatMul", "Gemm", "MatMul")]
        assert {left["reason"] for left in products} <= {"both sides are float activations"}
        assert row["latency"][0]["p50_ms"] > 0 and row["operators"]
    assert rows["ort-weights4"]["size_bytes"] < rows["ort-dynamic"]["size_bytes"] < rows["fp32"]["size_bytes"]
    weighed = outcome.report["int8"]
    assert weighed["over"] == "gpt-fp32" and weighed["file"].removeprefix("gpt-") in precisions
    if outcome.report["deploy"] != "gpt-fp32":
        assert weighed["speedup_ci95"][0] > 1
    told = (folder / "runs" / "text" / "report.html").read_text()
    assert "ort-weights4" in told and "a file of" in told
    file = folder / "runs" / "text" / rows["ort-weights4"]["path"] / "model.onnx"
    assert {node.op_type for node in onnx.load(file).graph.node} >= {"MatMulNBits", "GatherBlockQuantized"}
