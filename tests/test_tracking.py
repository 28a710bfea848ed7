"""Trackers hear of settings, curves and results; keys and artifacts know nothing of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker

from compress.config import read_pipeline
from compress.errors import StageError, UsageError
from compress.execute import execute
from compress.pipeline import Pipeline
from compress.plan import make_plan
from compress.run import Done
from compress.stage import Silent
from compress.store import Record, Store
from compress.tracking import PACKAGES, Tracking, curves, flat

PIPELINE = """
threads: 1
data: digits
models:
  net: {zoo: resnet8, width: 0.5}
stages:
  - train: {epochs: 2, batch_size: 256}
  - export: {emit: [fp32]}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0}]
"""


class JsonLines(GeneralTracker):  # type: ignore[misc]
    """Writes a line for each thing that it is told."""

    name = "json-lines"
    requires_logging_directory = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.lines = path.open("w")

    @property
    def tracker(self) -> Any:
        return self.lines

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._write({"settings": values})

    def log(self, values: dict[str, Any], step: int | None, **more: Any) -> None:
        self._write({"step": step, **values})

    def finish(self) -> None:
        self.lines.close()

    def _write(self, content: dict[str, Any]) -> None:
        self.lines.write(json.dumps(content) + "\n")


@pytest.fixture(autouse=True)
def _no_state_is_left() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)


def pipeline(folder: Path, more: str = "") -> Pipeline:
    (folder / "p.yaml").write_text(PIPELINE + more)
    return read_pipeline(folder / "p.yaml")


def epoch(number: int, loss: float) -> dict[str, Any]:
    validation = {"accuracy": 0.5 + number / 10}
    return {
        "epoch": number,
        "learning_rate": 0.1,
        "training_loss": loss,
        "validation_loss": 1.0,
        "validation": validation,
    }


def test_a_tracker_hears_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = JsonLines(tmp_path / "lines")
    monkeypatch.setattr("compress.execute.Tracking", lambda pipeline, folder: Tracking(pipeline, folder, [tracker]))
    outcome = execute(pipeline(tmp_path), Store(tmp_path / "s"), tmp_path / "runs", Silent(), rehearsal=False)
    assert outcome is not None and tracker.lines.closed
    first, *lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert first["settings"]["stages.0.train.epochs"] == 2 and first["settings"]["seed"] == 0
    *epochs, last = lines
    assert [line["step"] for line in epochs] == [0, 1] and last["step"] == 2
    assert epochs[0]["train/training_loss"] > epochs[1]["train/training_loss"] > 0
    assert 0 <= epochs[1]["train/validation_accuracy"] <= 1
    [row] = [row for row in outcome.report["models"] if row["kind"] == "onnx"]
    assert last[f"report/{row['name']}/accuracy"] == row["metrics"]["accuracy"]
    assert last[f"report/{row['name']}/local/batch_1/p50_ms"] == row["latency"][0]["p50_ms"]
    assert last[f"report/{row['name']}/size_bytes"] == row["size_bytes"]


def test_keys_know_nothing_of_trackers(tmp_path: Path) -> None:
    plain, tracked = (make_plan(pipeline(tmp_path, more)) for more in ("", "tracking: [tensorboard, mlflow, wandb]\n"))
    assert [step.key for step in plain.steps] == [step.key for step in tracked.steps]


def test_a_missing_package_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "wandb", "no-such-package")
    with pytest.raises(UsageError, match="wandb cannot be used without the package: pip install no-such-package"):
        execute(pipeline(tmp_path, "tracking: [wandb]\n"), Store(tmp_path / "s"), tmp_path / "runs", Silent())
    assert not (tmp_path / "runs").exists() and not list((tmp_path / "s").rglob("*.json"))


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tracking"):
        pipeline(tmp_path, "tracking: [paper]\n")


def test_a_tracker_that_fails_is_one_message(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path / "lines")
    tracker.lines.close()
    tracking = Tracking(pipeline(tmp_path), tmp_path, [tracker])
    with pytest.raises(StageError, match=r"a tracker fails \(ValueError: I/O operation on closed file") as error:
        tracking.tell_report({"models": []})
    assert "\n" not in str(error.value)


def test_curves_are_found_inside_of_records() -> None:
    epochs = [epoch(0, 2.0), epoch(1, 1.0)]
    found = list(
        curves({"training": {"epochs": epochs}, "pruning": {"recover": {"epochs": epochs[:1]}}, "other": {"epochs": 3}})
    )
    assert found == [((), epochs), (("pruning", "recover"), epochs[:1])]


def test_settings_are_flat_and_of_kinds_that_trackers_take() -> None:
    given = {"a": {"b": [1, {"c": None}]}, "d": True, "e": "x"}
    assert flat(given) == {"a.b.0": 1, "a.b.1.c": "None", "d": True, "e": "x"}


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-not-found,unused-ignore]
        EventAccumulator,
    )

    record = Record(
        "train", "train", "key", {}, "digest", {"training": {"epochs": [epoch(0, 2.0), epoch(1, 1.5)]}}, 1.0
    )
    tracking = Tracking(pipeline(tmp_path, "tracking: [tensorboard]\n"), tmp_path / "run")
    tracking.tell_step("train", Done(record, reused=False))
    row = {"name": "net-fp32", "metrics": {"accuracy": 0.75, "accuracy_ci95": [0.5, 1]}, "size_bytes": 8, "latency": []}
    tracking.tell_report({"models": [row]})
    tracking.close()
    held: dict[str, Any] = {}
    for file in (tmp_path / "run" / "tracking").rglob("events.out.tfevents.*"):
        read = EventAccumulator(str(file))
        read.Reload()
        held |= {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert held["train/training_loss"] == [(0, 2.0), (1, 1.5)]
    assert held["report/net-fp32/accuracy"] == [(2, 0.75)] and "report/net-fp32/accuracy_ci95" not in held
