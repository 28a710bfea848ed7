"""`minimal.py` is run in a process of its own that cannot import `compress`, and gives the file's answer."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compress.bundle import Deployment, TensorSpec
from compress.report.manifest import ArtifactFile, write_artifacts
from compress.report.minimal import minimal_example
from tests.report.test_manifest import LABELS, bundle, deployment, text_bundle

ALONE = """
import runpy, sys
from pathlib import Path
sys.modules["compress"] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PACKAGES = {"json", "sys", "pathlib", "numpy", "onnxruntime", "PIL", "tokenizers", "preprocessing"}


def answer(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", ALONE, str(folder / "minimal.py"), *arguments]
    found = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def written(folder: Path, half: Deployment, source: Path) -> Path:
    write_artifacts(folder, [ArtifactFile(source, "m", half, "fp32", "fp32")])
    return folder


def statements(folder: Path) -> list[str]:
    lines = (folder / "minimal.py").read_text().splitlines()
    return [line for line in lines[1:] if line and not line.startswith(("import", "from"))]


def test_a_picture(tmp_path: Path) -> None:
    folder = written(tmp_path / "artifacts", deployment(), bundle(tmp_path / "one", 2, deployment()))
    pixels = np.random.default_rng(5).integers(0, 17, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    weight = np.random.default_rng(2).normal(size=(64, 10)).astype(np.float32)
    logits = ((pixels.astype(np.float32) * np.float32(0.0625) - 0.3) / 0.5).reshape(64) @ weight
    label, number = answer(folder, str(tmp_path / "digit.png")).split()
    assert label == LABELS[int(logits.argmax())] and float(number) == pytest.approx(logits.max(), rel=1e-5)
    assert answer(folder).split()[0] in LABELS
    assert len(statements(folder)) <= 10
    assert max(map(len, (folder / "minimal.py").read_text().splitlines())) <= 160


def test_a_fixed_batch_of_numbers_without_labels(tmp_path: Path) -> None:
    half = deployment(
        task={"name": "regression"},
        inputs=(TensorSpec("input", "float32", (2, 1, 8, 8)),),
        outputs=(TensorSpec("output", "float32", (2, 10)),),
        preprocessing=(),
        labels=None,
    )
    folder = written(tmp_path / "artifacts", half, bundle(tmp_path / "one", 1, half))
    np.save(tmp_path / "ones.npy", np.ones((1, 8, 8), dtype=np.float32))
    weight = np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)
    found = np.array(answer(folder, str(tmp_path / "ones.npy")).strip("[]").split(), dtype=np.float64)
    np.testing.assert_allclose(found, weight.sum(0), rtol=1e-4)


def _reader(length: int | str = "sequence", batch: int | str = "batch", **changes: Any) -> Deployment:
    names = ["input_ids", "attention_mask"]
    known = {"file": "tokenizer.json", "max_length": 4, "pad_id": 0, "mask_id": 3, "eos_id": 0, "start_id": 0,
             "beginning": [], "prompt": None, "inputs": names}  # fmt: skip
    return deployment(
        task={"name": "text-classification", "arguments": {}},
        inputs=tuple(TensorSpec(name, "int64", (batch, length)) for name in names),
        outputs=(TensorSpec("output", "float32", ("batch", 2)),),
        preprocessing=(),
        labels=("negative", "positive"),
        extra={"tokenizer": known | changes, "sizes": {"sequence": 4}},
    )


@pytest.mark.parametrize(("length", "batch"), [("sequence", "batch"), (4, 2)])
def test_a_text(length: int | str, batch: int | str, tmp_path: Path) -> None:
    half = _reader(length, batch)
    folder = written(tmp_path / "artifacts", half, text_bundle(tmp_path / "one", half))
    assert answer(folder, "good good film") == "positive 2.0"
    assert answer(folder, "bad x x x good good") == "negative 1.0"
    assert len(statements(folder)) <= 11


def test_a_prompt_goes_around_a_text(tmp_path: Path) -> None:
    half = _reader(prompt="good {input}", max_length=9)
    folder = written(tmp_path / "artifacts", half, text_bundle(tmp_path / "one", half))
    assert answer(folder, "good film") == "positive 2.0"


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm", "sequence-to-sequence"])
@pytest.mark.parametrize("length", ["sequence", 4])
def test_what_writes_is_a_program_of_few_packages(task: str, length: int | str) -> None:
    half = _reader(length)
    outputs = (TensorSpec("logits", "float32", ("batch", length, 80)),)
    inputs = half.inputs
    if task == "sequence-to-sequence":
        inputs = (*inputs, TensorSpec("decoder_input_ids", "int64", ("batch", "target_sequence")))
    half = replace(half, task={"name": task}, inputs=inputs, outputs=outputs, labels=None)
    entry = {"path": "m", "name": "m", "model": "m/model.onnx", **json.loads(json.dumps(half.as_json()))}
    text = minimal_example(entry)
    compile(text, "minimal.py", "exec")
    imports = [line.replace(",", " ").split() for line in text.splitlines() if line.startswith(("import ", "from "))]
    named = {word for words in imports for word in ([words[1]] if words[0] == "from" else words[1:])}
    assert {name for name in named if name not in ("as", "np")} <= PACKAGES
