from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.config import read_pipeline
from compress.plan import Plan, make_plan
from compress.report.facts import fingerprint, settings_of
from compress.report.summary import summarise
from compress.run import Done
from compress.store import Record
from compress.targets.settings import TargetSettings
from tests.report.conftest import latency

PIPELINE = """
name: two
data: digits
models: {net: {zoo: resnet8, width: 0.25}}
stages:
  - train: {epochs: 1}
  - quantize: {epochs: 0}
  - export: {emit: [fp32, ort-x86]}
targets:
  - {name: local, emit: [fp32, ort-x86]}
  - {name: board, emit: [fp32, ort-x86], seconds: 0.2, budget: {latency_p50_ms: 0.7}}
"""
INT8 = "net-quantize-ort-x86"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "two.yaml"
    path.write_text(PIPELINE)
    return make_plan(read_pipeline(path))


def summary(plan: Plan, emulated: bool = False) -> dict[str, Any]:
    """A run in which int8 is fast here and slow on the board, and right nowhere less than float."""
    files = {row.name: {"path": row.name, "sha256": "0" * 64, "size_bytes": 400_000} for row in plan.rows}
    done = {}
    for step in plan.steps:
        metrics: dict[str, Any] = {}
        if step.stage.verb == "evaluate":
            right = {"accuracy": 0.95 if step.target and step.target.name == "board" else 0.97}
            metrics = {"primary": "accuracy", "higher_is_better": True, "test": right, "validation": right}
        elif step.stage.verb == "profile":
            assert step.target is not None
            board = step.target.name == "board"
            rows = {
                name: [
                    {
                        **latency((0.9 if board else 0.1) if name == INT8 else 0.5, target=step.target.name),
                        "mode": "quick",
                    }
                    | ({"emulated": True} if board and emulated else {})
                ]
                for name in step.inputs
            }
            machine = {"machine": {"cpu": step.target.name}, "versions": {"onnxruntime": "1"}}
            metrics = {"latency": rows, "operators": {}, "channels": {}, "notes": [], "machine": machine}
        elif "ort-x86" in step.name:
            metrics = {"precision": "int8"}
        done[step.name] = Done(Record(step.name, step.stage.verb, step.key, {}, "0" * 64, metrics, 1.0), False)
    return summarise(plan, done, files, {})


def test_each_target_is_decided_by_its_own_times_accuracy_and_budget(plan: Plan) -> None:
    report = summary(plan)
    here, board = report["targets"]
    assert (here["name"], here["deploy"]) == ("local", INT8) and report["deploy"] == INT8
    assert board["deploy"] is not None and board["deploy"] != INT8
    assert [line["name"] for line in board["budget"]] == ["latency_p50_ms"] and here["budget"] == []
    assert here["fingerprint"] != board["fingerprint"]
    rows = {row["name"]: row for row in report["models"]}
    assert rows[INT8]["metrics_by_target"]["board"]["accuracy"] == 0.95


def test_nothing_is_chosen_by_an_emulators_times(plan: Plan) -> None:
    report = summary(plan, emulated=True)
    board = report["targets"][1]
    assert board["emulated"] and board["deploy"] is None and board["met"] is None
    for row in report["models"]:
        for entry in row["latency"]:
            assert ("speedup_ci95" in entry) == (entry["target"] == "local" and row["name"] != report["reference_row"])


def test_speedups_are_paired_and_p90s_have_intervals(plan: Plan) -> None:
    report = summary(plan)
    rows = {row["name"]: row["latency"][0] for row in report["models"] if row["latency"]}
    low, high = rows[INT8]["speedup_ci95"]
    assert low <= rows[report["reference_row"]]["p50_ms"] / rows[INT8]["p50_ms"] <= high
    for entry in rows.values():
        assert entry["p90_ci95_ms"][0] <= entry["p90_ms"] <= entry["p90_ci95_ms"][1]


def test_settings_say_what_was_asked_and_not_whose_machine_it_is(plan: Plan) -> None:
    board = TargetSettings(name="board", kind="ssh", host="alice@board.example", ssh_config="/home/alice/config")
    settings = settings_of(plan.pipeline.model_copy(update={"targets": [plan.pipeline.targets[0], board]}))
    text = json.dumps(settings)
    assert "alice" not in text and "board.example" not in text and str(Path.home()) not in text
    assert "folder" not in settings and str(plan.pipeline.folder) not in text
    assert [stage["name"] for stage in settings["stages"]] == ["train", "quantize", "export"]
    assert settings["stages"][0]["train"]["epochs"] == 1 and settings["targets"][1]["kind"] == "ssh"


def test_a_fingerprint_is_that_of_machine_versions_runtime_and_threads() -> None:
    machine = {"machine": {"cpu": "a"}, "versions": {"onnxruntime": "1"}, "conditions": {"load": 1}}
    first = fingerprint(machine, "onnxruntime", 1)
    assert first == fingerprint(machine | {"conditions": {"load": 9}}, "onnxruntime", 1)
    others = [
        fingerprint(machine | {"machine": {"cpu": "b"}}, "onnxruntime", 1),
        fingerprint(machine | {"versions": {"onnxruntime": "2"}}, "onnxruntime", 1),
        fingerprint(machine, "tensorrt", 1),
        fingerprint(machine, "onnxruntime", 2),
    ]
    assert len({first, *others}) == 5
