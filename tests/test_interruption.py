"""kill -9 in the middle of each stage, in real processes; the same command then ends with the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from compress.cli import main

PIPELINE = """
data: {source: {digits: {}}, split: {validation: 0.15, test: 0.6}}
threads: 1
models:
  teacher: {zoo: resnet8, width: 0.5}
STAGES
  - quantize: {epochs: 2}
  - export: {emit: [fp32, ort-x86]}
targets: [{name: local, rounds: 2, seconds: 0.02, warmup_seconds: 0}]
"""
SHORT = """
stages:
  - train: {epochs: 2}
"""
WHOLE = """
  student: {zoo: resnet8, width: 0.5}
stages:
  - train: {model: teacher, epochs: 2}
  - distill: {model: student, teacher: teacher, epochs: 2}
  - prune: {keep: {macs: 0.6}, round_to: 2, recover: {epochs: 2}}
"""
TRAINING = ("train", "distill", "prune", "quantize")
EVERY = (*TRAINING, "quantize.ort-x86", "teacher on local", "profile on local")
SOME = ("quantize", "profile on local")
COMMAND = ("run", "pipeline.yaml", "--skip-rehearsal")
LIMIT_SECONDS = 300


def _start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "COMPRESS_CHECKPOINT_SECONDS": "0.02"}
    command = [sys.executable, "-m", "compress", *COMMAND]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in (folder / ".compress" / "progress").glob("*/**/*") if path.is_file()]


def _run_until(folder: Path, step: str) -> None:
    """Start the command and kill it -9 inside a step: one that trains, when a checkpoint of it is there."""
    process = _start(folder)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(f"{step}: "):
            break
    else:
        pytest.fail(f"{step} never started:\n{''.join(said)}")
    limit = time.monotonic() + LIMIT_SECONDS
    while step in TRAINING and not _checkpoints(folder) and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.002)
    assert process.poll() is None, f"{step} ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def _finish(folder: Path) -> dict[str, str]:
    """Run to the end, in this process; the digests of all artifacts."""
    with contextlib.chdir(folder), pytest.raises(SystemExit) as end:
        main(list(COMMAND))
    assert end.value.code in (None, 0, 4)
    report = json.loads((folder / "runs" / "pipeline" / "report.json").read_text())
    return {model["name"]: model["sha256"] for model in report["models"]}


@pytest.mark.parametrize("steps", [SOME, pytest.param(EVERY, marks=pytest.mark.long)], ids=["some", "every"])
def test_a_run_that_is_killed_ends_with_the_bytes_of_an_undisturbed_one(steps: Sequence[str], tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("disturbed", "undisturbed")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "pipeline.yaml").write_text(PIPELINE.replace("\nSTAGES\n", WHOLE if "prune" in steps else SHORT))
    for step in steps:
        _run_until(folders["disturbed"], step)
        assert not (folders["disturbed"] / "runs" / "pipeline" / "report.json").exists()
    disturbed = _finish(folders["disturbed"])
    assert len(disturbed) >= (9 if "prune" in steps else 5)
    assert disturbed == _finish(folders["undisturbed"])
    assert _checkpoints(folders["disturbed"]) == []
