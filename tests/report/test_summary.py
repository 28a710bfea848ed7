"""From a pipeline's plan and records to what the report says of int8; times are made up, so that they say one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.bundle import Kind
from compress.config import read_pipeline
from compress.plan import Plan, make_plan
from compress.report.card import markdown_card
from compress.report.page import html_page
from compress.report.summary import summarise
from compress.run import Done
from compress.store import Record
from tests.report.conftest import latency

PIPELINE = """
name: narrow
data: digits
models: {net: {zoo: resnet8, width: 0.25}}
stages:
  - train: {epochs: 1}
  - quantize: {epochs: 0}
  - export: {emit: [fp32, ort-x86]}
targets: [{name: local, emit: [fp32, ort-x86]}]
"""
FLOAT_MS = 0.2
INT8 = "net-quantize-ort-x86"
LEFT = [{"name": "product", "operator": "MatMul", "reason": "both sides are float activations"}]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "narrow.yaml"
    path.write_text(PIPELINE)
    return make_plan(read_pipeline(path))


def summary(plan: Plan, int8_ms: float, accuracy: float = 0.97, budget: dict[str, float] | None = None) -> Any:
    """The report of a run in which the int8 file takes `int8_ms`, and each float file `FLOAT_MS`."""
    settings = plan.pipeline.budget.model_copy(update=budget or {})
    plan = Plan(plan.pipeline.model_copy(update={"budget": settings}), plan.steps, plan.rows, plan.reference)
    files = {row.name: {"path": row.name, "sha256": "0" * 64, "size_bytes": 400_000} for row in plan.rows}
    files[INT8]["size_bytes"] = 110_000
    int8_steps = {row.step for row in plan.rows if row.name == INT8}
    done = {}
    for step in plan.steps:
        metrics: dict[str, Any] = {}
        if step.stage.verb == "evaluate":
            value = accuracy if step.inputs["source"] in int8_steps else 0.97
            metrics = {"primary": "accuracy", "higher_is_better": True}
            metrics |= {split: {"accuracy": value} for split in ("test", "validation")}
            metrics["test"]["right"] = {"examples": 8, "bits": "/w=="}
        elif step.stage.verb == "profile":
            metrics = profiled(plan, int8_ms)
        elif step.name in int8_steps:
            metrics = {"precision": "int8", "int8_share": 0.9, "not_int8": LEFT}
        done[step.name] = Done(Record(step.name, step.stage.verb, step.key, {}, "0" * 64, metrics, 1.0), False)
    return summarise(plan, done, files, {})


def profiled(plan: Plan, int8_ms: float) -> dict[str, Any]:
    names = [row.name for row in plan.rows if row.kind is Kind.ONNX]
    boundaries = [("QLinearConv", 9, 120.0), ("QuantizeLinear", 5, 60.0), ("DequantizeLinear", 5, 20.0)]
    kinds = {name: boundaries if name == INT8 else [("Conv", 9, 180.0)] for name in names}
    return {
        "latency": {name: [latency(int8_ms if name == INT8 else FLOAT_MS)] for name in names},
        "operators": {
            name: [{"operator": kind, "count": count, "microseconds": spent} for kind, count, spent in rows]
            for name, rows in kinds.items()
        },
        "channels": {name: [4, 4, 8, 8, 16] for name in names},
        "notes": [],
    }


def test_int8_that_is_slower_is_not_deployed_and_why_is_said(plan: Plan) -> None:
    report = summary(plan, 0.25)
    assert report["deploy"] != INT8 and report["int8"]["file"] == INT8 and not report["int8"]["pays"]
    assert report["int8"]["reasons"] == [
        "from float to int8 or back (5 QuantizeLinear, 5 DequantizeLinear): 40% of its time",
        "not in int8: product (MatMul): both sides are float activations",
        "4 of 5 layers have fewer than 16 channels, too few for int8 to pay",
    ]
    for text in (markdown_card(report), html_page(report)):
        assert "Int8 does not pay here: net-quantize-ort-x86 runs at 0.80x of net-fp32" in text
        assert "4 of 5 layers have fewer than 16 channels" in text
        assert "Where the time goes" in text


def test_int8_within_noise_is_not_deployed(plan: Plan) -> None:
    report = summary(plan, 0.1985)
    low, high = report["int8"]["speedup_ci95"]
    assert low < 1 < report["int8"]["speedup"] < high
    assert report["deploy"] != INT8
    assert any("may be chance" in reason for reason in report["int8"]["reasons"])


def test_int8_that_is_faster_is_deployed(plan: Plan) -> None:
    report = summary(plan, 0.1)
    assert report["deploy"] == INT8 and report["int8"]["pays"] and report["int8"]["reasons"] == []
    rows = {row["name"]: row for row in report["models"]}
    assert rows[INT8]["operators"][0] == {"operator": "QLinearConv", "count": 9, "microseconds": 120.0}
    assert "operators" not in rows["net"]


def test_int8_that_is_less_right_is_not_deployed(plan: Plan) -> None:
    report = summary(plan, 0.1, accuracy=0.9)
    assert report["deploy"] != INT8
    assert "misses accuracy_drop on validation data, with 0.07 where 0.01 is allowed" in report["int8"]["said"]


def test_slow_int8_is_deployed_for_its_size_and_that_is_said(plan: Plan) -> None:
    report = summary(plan, 0.25, budget={"size_bytes": 120_000})
    assert report["deploy"] == INT8 and not report["int8"]["pays"]
    assert report["int8"]["reasons"][0].endswith("which no float file meets: net-fp32 misses size_bytes")


def test_operators_are_told_of_every_target(plan: Plan, tmp_path: Path) -> None:
    assert all("operators_by_target" not in row for row in summary(plan, 0.1)["models"])
    path = tmp_path / "two.yaml"
    path.write_text(PIPELINE.replace("ort-x86]}]", "ort-x86]}, {name: other, emit: [fp32]}]"))
    rows = {row["name"]: row for row in summary(make_plan(read_pipeline(path)), 0.1)["models"]}
    assert rows[INT8]["operators_by_target"] == {"other": rows[INT8]["operators"]}
    assert rows[INT8]["operators"][0]["operator"] == "QLinearConv"


def test_what_the_pipeline_says_for_the_card_is_kept_as_it_is(plan: Plan, tmp_path: Path) -> None:
    assert summary(plan, 0.1)["card"] == {}
    path = tmp_path / "told.yaml"
    path.write_text(PIPELINE + "card: {licence: https://example.org/licence}\n")
    report = summary(make_plan(read_pipeline(path)), 0.1)
    assert report["card"] == {"licence": "https://example.org/licence"}
    assert "https://example.org/licence" in markdown_card(report)


def test_the_judged_file_alone_tells_which_examples_it_has_right(plan: Plan) -> None:
    report = summary(plan, 0.1)
    assert report["right"] == {"file": INT8, "target": "local", "examples": 8, "bits": "/w=="}
    assert not any("right" in row["metrics"] for row in report["models"])
