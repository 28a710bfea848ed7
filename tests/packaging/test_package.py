"""A run's folder becomes one archive, from which the file to deploy runs where there is no `compress`."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from compress.cli import _status
from compress.errors import DONE, WRONG_CALL, UsageError
from compress.packaging.archive import check_archive
from compress.packaging.package import package
from compress.report.manifest import ArtifactFile, tell_measured, write_artifacts
from tests.report.test_manifest import LABELS, bundle, deployment
from tests.report.test_minimal import ALONE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with two files, of which `student` is to deploy."""
    half, folder = deployment(), tmp_path / "runs" / "digits"
    files = [ArtifactFile(bundle(tmp_path / name, 1, half), name, half, "fp32", "fp32") for name in ("big", "student")]
    artifacts = write_artifacts(folder / "artifacts", files)
    models = [
        {"name": one.name, "path": f"artifacts/{one.path}", "sha256": one.sha256, "metrics": {}, "latency": []}
        for one in artifacts
    ]
    report: dict[str, Any] = {"name": "digits", "deploy": "student-fp32", "models": models, "targets": []}
    report["environment"] = {"libraries": {}}
    tell_measured(folder / "artifacts", report)
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "report.md").write_text("# digits\n")
    (folder / "report.html").write_text("<html></html>")
    return folder


def unpacked(path: Path, folder: Path) -> Path:
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder / "digits"


def test_the_file_to_deploy_runs_from_the_archive(run: Path, tmp_path: Path) -> None:
    path = package(run, tmp_path / "d.tar.gz")
    programs = {"manifest.json", "example.py", "minimal.py", "preprocessing.py"}
    report = {"README.md", "report/report.html", "report/report.json"}
    assert set(check_archive(path)) == {"student-fp32.onnx", *programs, *report}
    shutil.rmtree(run)
    home = unpacked(path, tmp_path / "elsewhere")
    manifest = json.loads((home / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["files"]] == ["student-fp32"]
    for program in ("minimal.py", "example.py"):
        command = [sys.executable, "-c", ALONE, str(home / program)]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.returncode == 0 and any(label in found.stdout for label in LABELS), found.stderr
    for listed in manifest["programs"]:
        assert hashlib.sha256((home / listed["path"]).read_bytes()).hexdigest() == listed["sha256"]


def test_another_file_or_all(run: Path, tmp_path: Path) -> None:
    home = unpacked(package(run, tmp_path / "one.tar.gz", ["big-fp32.onnx"]), tmp_path / "one-out")
    assert '"big-fp32"' in (home / "minimal.py").read_text() and not (home / "student-fp32.onnx").exists()
    found = check_archive(package(run, tmp_path / "all.zip", every=True))
    assert {"big-fp32.onnx", "student-fp32.onnx"} <= set(found)


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first = package(run, tmp_path / "a.tar.gz").read_bytes()
    run.rename(tmp_path / "moved")
    assert package(tmp_path / "moved", tmp_path / "b.tar.gz").read_bytes() == first


def _refusal(run: Path, out: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        package(run, out, **options)
    assert "\n" not in str(error.value) and not out.exists()
    return str(error.value)


def test_what_cannot_be_packed_is_said(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.zip"
    assert "no file called 'smal'; it has big-fp32, student-fp32" in _refusal(run, out, names=["smal"])
    assert "leave --file out" in _refusal(run, out, names=["big-fp32"], every=True)
    with (run / "artifacts" / "student-fp32.onnx").open("ab") as file:
        file.write(b"\x00")
    assert "student-fp32.onnx: has changed since it was measured" in _refusal(run, out)
    assert package(run, tmp_path / "other.zip", ["big-fp32"]).exists()
    (run / "artifacts" / "student-fp32.onnx").unlink()
    assert "is listed and missing" in _refusal(run, out)
    (run / "artifacts" / "example.py").write_text("changed")
    assert "example.py: has changed" in _refusal(run, out, names=["big-fp32"])
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps(report | {"deploy": None}))
    assert "no file is within the budget" in _refusal(run, out)
    (run / "report.json").unlink()
    assert "no report.json here" in _refusal(run, out)


def test_the_command_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _status(["package", str(run)]) == DONE and (tmp_path / "digits.tar.gz").is_file()
    assert _status(["package", str(run)]) == WRONG_CALL
    assert _status(["package", "--check", "digits.tar.gz"]) == DONE
    (tmp_path / "digits.tar.gz").write_bytes(b"nothing")
    assert _status(["package", "--check", "digits.tar.gz"]) == WRONG_CALL
    assert _status(["package"]) == WRONG_CALL
