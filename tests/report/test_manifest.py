from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.bundle import Deployment, Kind, TensorSpec, write_bundle
from compress.report.manifest import Artifact, ArtifactFile, artifact_names, digest, write_artifacts

LABELS = tuple("abcdefghij")
STEPS = ({"scale": {"factor": 0.0625}}, {"normalize": {"mean": [0.3], "std": [0.5]}})


def deployment(**changes: Any) -> Deployment:
    usual: dict[str, Any] = {
        "task": {"name": "image-classification", "arguments": {}},
        "inputs": (TensorSpec("input", "float32", ("batch", 1, 8, 8)),),
        "outputs": (TensorSpec("output", "float32", ("batch", 10)),),
        "preprocessing": STEPS,
        "labels": LABELS,
    }
    return Deployment(**(usual | changes))


def bundle(folder: Path, seed: int, half: Deployment) -> Path:
    """A linear network in a bundle of kind onnx."""
    weight = np.random.default_rng(seed).normal(size=(64, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))
        for spec in (*half.inputs, *half.outputs)
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))
    write_bundle(folder, Kind.ONNX, half)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> list[ArtifactFile]:
    half = deployment()
    return [
        ArtifactFile(bundle(tmp_path / "one", 1, half), "teacher", half, "fp32", "fp32"),
        ArtifactFile(bundle(tmp_path / "two", 2, half), "student", half, "int8", "ort-x86"),
        ArtifactFile(bundle(tmp_path / "three", 3, half), "student", half, "int8", "ort-arm"),
    ]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The example in a fresh process that has no `compress`."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(folder / "example.py"), *arguments]
    return subprocess.run(command, cwd=folder.parent, env=clean, capture_output=True, text=True, check=False)


def test_files_are_named_for_what_they_are(files: list[ArtifactFile], tmp_path: Path) -> None:
    written = write_artifacts(tmp_path / "artifacts", files)
    names = ["teacher-fp32.onnx", "student-int8-ort-x86.onnx", "student-int8-ort-arm.onnx"]
    assert [artifact.path for artifact in written] == names
    found = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert found == {*names, "manifest.json", "example.py", "minimal.py", "preprocessing.py"}


def test_the_manifest_tells_all_that_a_deployer_needs(files: list[ArtifactFile], tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    write_artifacts(folder, files)
    entry = json.loads((folder / "manifest.json").read_text())["files"][1]
    content = (folder / "student-int8-ort-x86.onnx").read_bytes()
    assert entry["sha256"] == hashlib.sha256(content).hexdigest() and entry["size_bytes"] == len(content)
    assert (entry["precision"], entry["profile"], entry["kind"]) == ("int8", "ort-x86", "onnx")
    assert entry["task"] == {"name": "image-classification", "arguments": {}}
    assert entry["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert entry["outputs"][0]["shape"] == ["batch", 10]
    assert entry["preprocessing"] == list(STEPS) and entry["labels"] == list(LABELS)


def test_the_same_bytes_anywhere_and_no_path_of_the_machine(files: list[ArtifactFile], tmp_path: Path) -> None:
    contents = []
    for name in ("here", "there/deep"):
        write_artifacts(tmp_path / name, files)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert not any(str(tmp_path).encode() in content for content in contents[0].values())


def test_a_users_own_file_loses_its_folder(tmp_path: Path) -> None:
    half = deployment(task={"name": "/home/somebody/secret/task.py:make", "arguments": {"file": "C:\\data\\x.csv"}})
    source = bundle(tmp_path / "one", 1, half)
    write_artifacts(tmp_path / "artifacts", [ArtifactFile(source, "m", half, "fp32", "fp32")])
    entry = json.loads((tmp_path / "artifacts" / "manifest.json").read_text())["files"][0]
    assert entry["task"] == {"name": "task.py:make", "arguments": {"file": "x.csv"}}


def test_a_second_run_replaces_and_removes_only_its_own(files: list[ArtifactFile], tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    write_artifacts(folder, files)
    (folder / "notes.txt").write_text("mine")
    write_artifacts(folder, files[:1])
    found = {path.name for path in folder.iterdir()}
    assert found == {"teacher-fp32.onnx", "notes.txt", "manifest.json", "example.py", "minimal.py", "preprocessing.py"}


def test_a_model_of_several_files_stays_a_folder(tmp_path: Path) -> None:
    half = deployment()
    source = bundle(tmp_path / "one", 1, half)
    (source / "model.onnx.data").write_bytes(b"12345")
    file = ArtifactFile(source, "big", half, "fp32", "fp32")
    for _ in range(2):
        (artifact,) = write_artifacts(tmp_path / "artifacts", [file])
    assert (artifact.path, artifact.model_path) == ("big-fp32", "big-fp32/model.onnx")
    folder = tmp_path / "artifacts" / "big-fp32"
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert artifact.sha256 == digest(folder)
    assert run(tmp_path / "artifacts").returncode == 0


def test_a_folders_digest_is_that_of_its_sorted_files_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    before = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    assert digest(tmp_path) != before
    (tmp_path / "c").rename(tmp_path / "a")
    assert digest(tmp_path) == before


def test_names_never_clash(files: list[ArtifactFile]) -> None:
    odd = ArtifactFile(Path("m.onnx"), "a/b c", deployment(), "fp32", "fp32")
    assert artifact_names([files[0], files[0], files[0], odd]) == [
        "teacher-fp32",
        "teacher-fp32-2",
        "teacher-fp32-3",
        "a-b-c-fp32",
    ]


def test_the_example_runs_and_gives_the_models_answer(files: list[ArtifactFile], tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    written: list[Artifact] = write_artifacts(folder, files)
    made_up = run(folder)
    assert made_up.returncode == 0, made_up.stderr
    assert made_up.stdout.startswith("a made-up example: output = ")

    raw = np.random.default_rng(5).integers(0, 17, (8, 8), dtype=np.uint8)
    np.save(tmp_path / "digit.npy", raw)
    found = run(folder, written[1].path, str(tmp_path / "digit.npy"))
    assert found.returncode == 0, found.stderr
    weight = np.random.default_rng(2).normal(size=(64, 10)).astype(np.float32)
    logits = ((raw.astype(np.float32) * np.float32(0.0625) - 0.3) / 0.5).reshape(1, 64) @ weight
    assert f"output = {LABELS[int(logits.argmax())]} (largest of 10 logits: {logits.max():.4g})" in found.stdout


def test_the_example_reads_pictures_and_names_what_it_does_not_know(files: list[ArtifactFile], tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "artifacts"
    write_artifacts(folder, files)
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(tmp_path / "seven.png")
    assert run(folder, str(tmp_path / "seven.png")).returncode == 0
    wrong = run(folder, "other.onnx")
    assert wrong.returncode == 1 and "not in manifest.json" in wrong.stderr and "Traceback" not in wrong.stderr


def test_the_example_runs_regression_with_a_fixed_batch(tmp_path: Path) -> None:
    half = deployment(
        task={"name": "regression", "arguments": {"loss": "mse"}},
        inputs=(TensorSpec("input", "float32", (2, 1, 8, 8)),),
        outputs=(TensorSpec("output", "float32", (2, 10)),),
        preprocessing=(),
        labels=None,
    )
    file = ArtifactFile(bundle(tmp_path / "one", 1, half), "m", half, "fp32", "fp32")
    write_artifacts(tmp_path / "artifacts", [file])
    found = run(tmp_path / "artifacts")
    assert found.returncode == 0, found.stderr
    assert "output = float32 [10], from" in found.stdout


def text_bundle(folder: Path, half: Deployment) -> Path:
    """Counts how often the tokens 1 and 2 are read: logits of two classes; a tokenizer of whole words beside it."""
    from onnx import parser
    from tokenizers import Tokenizer, models, pre_tokenizers  # type: ignore[import-untyped]

    text = '<ir_version: 8, opset_import: ["" : 18]> g (int64[batch,sequence] input_ids, int64[batch,sequence] '
    text += "attention_mask) => (float[batch,2] output) { axes = Constant<value_ints = [1]>() "
    text += "one = Constant<value_int = 1>() two = Constant<value_int = 2>() bad = Equal(input_ids, one) "
    text += (
        "good = Equal(input_ids, two) x = Cast<to = 1>(bad) y = Cast<to = 1>(good) mask = Cast<to = 1>(attention_mask)"
    )
    text += "xm = Mul(x, mask) ym = Mul(y, mask) a = ReduceSum<keepdims = 1>(xm, axes) "
    text += "b = ReduceSum<keepdims = 1>(ym, axes) output = Concat<axis = 1>(a, b) }"
    folder.mkdir(parents=True)
    onnx.save(parser.parse_model(text), str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "bad": 1, "good": 2, "film": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_bundle(folder, Kind.ONNX, half)
    return folder


def test_the_example_reads_texts(tmp_path: Path) -> None:
    names = ["input_ids", "attention_mask"]
    known = {"file": "tokenizer.json", "max_length": 4, "pad_id": 0, "prompt": None, "inputs": names}
    half = deployment(
        task={"name": "text-classification", "arguments": {}},
        inputs=tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in names),
        outputs=(TensorSpec("output", "float32", ("batch", 2)),),
        preprocessing=(),
        labels=("negative", "positive"),
        extra={"tokenizer": known, "sizes": {"sequence": 4}},
    )
    source = text_bundle(tmp_path / "one", half)
    folder = tmp_path / "artifacts"
    (artifact,) = write_artifacts(folder, [ArtifactFile(source, "m", half, "fp32", "fp32")])
    assert artifact.size_bytes == (source / "model.onnx").stat().st_size
    assert {path.name for path in (folder / artifact.path).iterdir()} == {"model.onnx", "tokenizer.json"}
    found = run(folder, "good good film", "bad film good bad", "x x x x good good")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "'good good film': positive (largest of 2 logits: 2)",
        "'bad film good bad': negative (largest of 2 logits: 2)",
        "'x x x x good good': negative (largest of 2 logits: 0)",
    ]
    assert run(folder).stdout.startswith("'this is an example': negative")
