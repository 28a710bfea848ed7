from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from compress.report.manifest import ArtifactFile, tell_measured, write_artifacts
from compress.report.measured import PURPOSES, measured
from compress.targets.emissions import EMISSIONS
from tests.report.test_manifest import bundle, deployment

MACHINE = {"cpu": "A", "system": "Linux"}


def report(**model: Any) -> dict[str, Any]:
    entry = {"target": "local", "batch": 1, "p50_ms": 2.0, "p99_ms": None, "rounds_ms": [[1.0]], "shape": {"x": [1]}}
    usual = {"name": "m-fp32", "metrics": {"accuracy": 0.9}, "latency": [entry]}
    targets = [{"name": name, "runtime": "onnxruntime", "machine": MACHINE, "versions": {}} for name in ("local", "pi")]
    return {
        "models": [usual | model],
        "targets": targets,
        "deploy": "m-fp32",
        "environment": {"libraries": {"onnx": "1.23.2"}},
    }


def test_each_emission_says_what_it_is_for() -> None:
    assert set(PURPOSES) == set(EMISSIONS)


def test_a_target_that_measured_nothing_is_left_out() -> None:
    [found] = measured(report(), "m-fp32")
    assert found["target"] == "local" and found["machine"] == MACHINE and found["metrics"] == {"accuracy": 0.9}
    assert found["latency"] == [{"batch": 1, "shape": {"x": [1]}, "p50_ms": 2.0}]


def test_accuracy_is_that_of_the_answers_on_the_target() -> None:
    by_target = {"local": {"accuracy": 0.9}, "pi": {"accuracy": 0.8}}
    found = measured(report(metrics_by_target=by_target), "m-fp32")
    assert [(entry["target"], entry["metrics"]["accuracy"]) for entry in found] == [("local", 0.9), ("pi", 0.8)]


def test_the_manifest_is_told_and_its_digests_stay_true(tmp_path: Path) -> None:
    half, folder = deployment(), tmp_path / "artifacts"
    files = [ArtifactFile(bundle(tmp_path / name, 1, half), name, half, "fp32", "fp32") for name in ("n", "m")]
    write_artifacts(folder, files)
    assert "n-fp32" in (folder / "minimal.py").read_text()
    tell_measured(folder, report())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["deploy"] == "m-fp32" and manifest["versions"] == {"onnx": "1.23.2"}
    first, second = manifest["files"]
    assert "measured" not in first and second["measured"][0]["metrics"] == {"accuracy": 0.9}
    assert '"m-fp32"' in (folder / "minimal.py").read_text()

    for listed in [*manifest["programs"], *first["contents"], *second["contents"]]:
        content = (folder / listed["path"]).read_bytes()
        assert (listed["sha256"], listed["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert listed["for"]
