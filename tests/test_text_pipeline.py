"""Texts go the whole way: a pipeline file in, files to deploy with their tokenizer out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from compress.bundle import read_bundle
from compress.config import read_pipeline
from compress.errors import UsageError
from compress.execute import execute
from compress.models import rest
from compress.stage import Silent
from compress.store import Store

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then"]
PIPELINE = """
threads: 1
data:
  source: {table: {train: train.jsonl, test: test.jsonl, input: s, target: null}}
  text: {tokenizer: {bpe: {size: 280}}, max_length: 12}
task: causal-lm
models:
  gpt: {transformers: {model_type: gpt2, n_embd: 16, n_layer: 1, n_head: 2}}
stages:
  - train: {epochs: 2, batch_size: 32, learning_rate: 0.01}
  - export: {}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0}]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What one test has trained and exported is there for the next."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, count in (("train", 200), ("test", 40)):
        rows = [{"s": " ".join(generator.choice(WORDS, generator.integers(1, 9)))} for _ in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "text.yaml").write_text(PIPELINE)
    return tmp_path


def test_a_language_model_is_trained_exported_measured_and_runs(folder: Path, store: Store) -> None:
    outcome = execute(read_pipeline(folder / "text.yaml"), store, folder / "runs", Silent())
    assert outcome is not None
    report, artifacts = outcome.report, folder / "runs" / "text" / "artifacts"
    torch_row, file_row = report["models"]
    assert report["primary_metric"] == {"name": "perplexity", "higher_is_better": False}
    assert torch_row["metrics"]["perplexity"] == pytest.approx(file_row["metrics"]["perplexity"], rel=1e-5)
    assert file_row["metrics"]["perplexity"] < 200 and file_row["metrics"]["agreement"] == 1
    assert file_row["latency"][0]["shape"] == {"input_ids": [1, 12], "attention_mask": [1, 12]}
    assert any("keep no keys and values" in note for note in report["notes"])
    entry = json.loads((artifacts / "manifest.json").read_text())["files"][0]
    assert [spec["dtype"] for spec in entry["inputs"]] == ["int64", "int64"]
    model = artifacts / entry["model"]
    assert file_row["size_bytes"] == model.stat().st_size
    _require_tokenizer_everywhere(folder, model)
    _require_perplexity(model, torch_row["metrics"]["perplexity"], folder)
    done = _example(artifacts, "the cat")
    assert done.returncode == 0 and done.stdout.startswith("'the cat': '"), done.stderr
    done = _example(artifacts, "the cat", program="minimal.py")
    assert done.returncode == 0 and done.stdout.startswith("goes on with '"), done.stderr


def _require_tokenizer_everywhere(folder: Path, model: Path) -> None:
    at_rest = folder / "runs" / "text" / "models" / "gpt"
    assert (model.parent / "tokenizer.json").read_bytes() == (at_rest / "tokenizer.json").read_bytes()
    extra = read_bundle(at_rest).deployment.extra
    assert extra["tokenizer"]["max_length"] == 12 and extra["sizes"] == {"sequence": 12}
    network: Any = rest.load(at_rest).network
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


def _require_perplexity(model: Path, told: float, folder: Path) -> None:
    """The reported perplexity, computed anew by hand from the file and its tokenizer."""
    from tokenizers import Tokenizer  # type: ignore[import-untyped]

    tokenizer = Tokenizer.from_file(str(model.parent / "tokenizer.json"))
    extra = read_bundle(folder / "runs" / "text" / "models" / "gpt").deployment.extra["tokenizer"]
    session = onnxruntime.InferenceSession(model)
    nll, count = 0.0, 0
    for line in (folder / "test.jsonl").read_text().splitlines():
        ids = tokenizer.encode(json.loads(line)["s"], add_special_tokens=False).ids
        ids = [*extra["beginning"], *ids, extra["eos_id"]][:12]
        given = np.array([ids], dtype=np.int64)
        logits = session.run(None, {"input_ids": given, "attention_mask": np.ones_like(given)})[0][0].astype(np.float64)
        for at, right in enumerate(ids[1:]):
            nll += np.log(np.exp(logits[at]).sum()) - logits[at, right]
            count += 1
    assert np.exp(nll / count) == pytest.approx(told, rel=1e-5)


def _example(artifacts: Path, *arguments: str, program: str = "example.py") -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(artifacts / program), *arguments]
    return subprocess.run(command, cwd=artifacts.parent, env=clean, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("task: causal-lm", "task: sequence-to-sequence"), "needs target texts"),
        (("model_type: gpt2, n_embd: 16", "model_type: gpt2, n_positions: 4, n_embd: 16"), "has 4 positions"),
        (("task: causal-lm", "task: causal-lm\nbudget: {accuracy_drop: 0.01}"), "judged by its perplexity"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(folder: Path, change: tuple[str, str], says: str) -> None:
    (folder / "text.yaml").write_text(PIPELINE.replace(*change))
    with pytest.raises(UsageError, match=says):
        execute(read_pipeline(folder / "text.yaml"), Store(folder / "store"), folder / "runs", Silent())


def test_int8_goes_the_whole_way(folder: Path, store: Store) -> None:
    text = PIPELINE.replace(
        "  - export: {}", "  - quantize: {epochs: 1, batch_size: 32}\n  - export: {emit: [ort-x86]}"
    )
    (folder / "text.yaml").write_text(text)
    outcome = execute(read_pipeline(folder / "text.yaml"), store, folder / "runs", Silent(), rehearsal=False)
    assert outcome is not None
    rows = outcome.report["models"]
    trained, file_row = rows[0], rows[-1]
    assert file_row["precision"] == "int8"
    assert file_row["metrics"]["perplexity"] == pytest.approx(trained["metrics"]["perplexity"], rel=0.1)
    entry = json.loads((folder / "runs" / "text" / "artifacts" / "manifest.json").read_text())["files"][0]
    model = folder / "runs" / "text" / "artifacts" / entry["model"]
    for length in (1, 12):
        given = np.ones((2, length), dtype=np.int64)
        logits = onnxruntime.InferenceSession(model).run(None, {"input_ids": given, "attention_mask": given})[0]
        assert logits.shape[:2] == (2, length)
    assert (model.parent / "tokenizer.json").exists()
