"""What a run reuses, repeats and refuses, with real steps on a small network."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from compress.budget import Verdict
from compress.cli import main
from compress.config import read_pipeline
from compress.plan import make_plan
from compress.run import statuses
from compress.store import Store

PIPELINE = """
data: {source: {digits: {}}, limit: {train: 64, validation: 32, test: 32}}
threads: 1
models: {net: {zoo: resnet8, width: 0.5}}
stages:
  - train: {epochs: 1}
  - export: {emit: [fp32]}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0, throughput_seconds: 0.01}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is done."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "p.yaml").write_text(PIPELINE)
    with contextlib.chdir(folder):
        assert call("run", "p.yaml") == 0
    return folder


@pytest.fixture
def done(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    folder = tmp_path / "done"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "runs" / "p" / "report.json").read_text())
    return content


def digests_of(content: dict[str, Any]) -> dict[str, str]:
    return {model["name"]: model["sha256"] for model in content["models"]}


def ran(folder: Path) -> set[str]:
    steps = report(folder)["steps"]
    return {step["name"] for step in steps if not step["reused"]}


def test_nothing_is_done_twice_and_only_what_changed_is_done_again(done: Path) -> None:
    folder = done
    everything = ran(folder)
    assert {"models.net", "train", "train.fp32", "net-fp32 on local", "profile on local"} <= everything
    before = report(folder)
    digests = digests_of(before)

    assert call("run", "p.yaml") == 0
    assert ran(folder) == set()
    assert report(folder)["models"] == before["models"]

    assert call("run", "p.yaml", "--remeasure") == 0
    assert ran(folder) == {name for name in everything if " on " in name}

    assert call("run", "p.yaml", "--set", "export.opset=19", "--skip-rehearsal") == 0
    assert ran(folder) == {"train.fp32-2", "net-fp32-2 on local", "profile on local"}

    for file in (folder / ".compress" / "artifacts").glob("*/model.onnx"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert call("run", "p.yaml") == 0
    assert ran(folder) == {"train.fp32"}
    assert digests_of(report(folder)) == digests


def test_a_missed_budget_keeps_everything_and_ends_with_status_4(done: Path) -> None:
    folder = done
    assert call("run", "p.yaml", "--set", "budget.speedup=1000") == 4
    content = report(folder)
    assert (content["met"], content["deploy"]) == (False, None)
    assert (folder / "runs" / "p" / "report.html").exists()
    assert call("run", "p.yaml") == 0
    assert ran(folder) == set()


def test_plan_says_that_all_would_run_and_leaves_no_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "p.yaml") == 0
    assert "reused" not in capsys.readouterr().out
    assert not (folder / ".compress").exists()


def test_plan_says_what_is_reused(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "p.yaml") == 0
    assert "will run" not in capsys.readouterr().out
    found = statuses(make_plan(read_pipeline(done / "p.yaml", ["train.epochs=2"])), Store(done / ".compress"))
    assert {s.step.name for s in found if s.reuse} == {"models.net"}


def test_gc_frees_what_no_run_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "p.yaml", "--skip-rehearsal") == 0
    assert call("run", "p.yaml", "--set", "train.epochs=2", "--skip-rehearsal") == 0
    capsys.readouterr()
    assert call("gc") == 0
    assert "free them with --yes" in capsys.readouterr().out
    assert call("gc", "--yes") == 0
    capsys.readouterr()
    assert call("gc") == 0
    assert capsys.readouterr().out.startswith("0 items")
    assert call("run", "p.yaml", "--set", "train.epochs=2") == 0
    assert ran(folder) == set()


def test_report_is_written_again_from_its_json(done: Path) -> None:
    page = done / "runs" / "p" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert call("report", "runs/p") == 0
    assert page.read_bytes() == before


def test_no_path_of_the_machine_is_in_what_a_run_gives(finished: Path) -> None:
    folder = finished
    words = [str(folder).encode(), str(Path.home()).encode() + b"/", str(Path(__file__).parent.parent).encode()]
    files = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert len(files) >= 8
    for path in files:
        assert not any(word in path.read_bytes() for word in words), path


def test_profile_needs_no_pipeline(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("profile", "runs/p/artifacts/net-fp32.onnx", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["latency"][0]["p50_ms"] > 0
    assert call("profile", "nothing.onnx") == 2


def test_a_verdict_without_a_file_is_not_met() -> None:
    assert not Verdict(None, "x", (), "").met
