from __future__ import annotations

from typing import Any

import pytest

from compress.errors import UsageError
from compress.report.reading import read_rows


def test_reads_what_a_run_writes(digits: dict[str, Any]) -> None:
    report = read_rows(digits)
    assert report.metric == "accuracy" and report.higher_is_better
    assert [model.name for model in report.files] == [row["name"] for row in digits["models"][4:]]
    assert report.deployed is not None and report.deployed.name == digits["deploy"]
    latency = report.deployed.on("local")
    assert latency is not None and latency.batch == 1 and len(latency.rounds_ms) == 12
    assert report.deployed.on("elsewhere") is None
    assert report.candidates[0].name == digits["deploy"]


def test_the_metric_is_guessed_where_none_is_named(digits: dict[str, Any]) -> None:
    del digits["primary_metric"]
    assert read_rows(digits).metric == "accuracy"


def test_every_variant_is_read(variants: dict[str, dict[str, Any]]) -> None:
    for name, report in variants.items():
        assert read_rows(report).name, name


@pytest.mark.parametrize("key", ["models", "budget", "deploy", "environment"])
def test_a_missing_key_is_told_by_name(digits: dict[str, Any], key: str) -> None:
    del digits[key]
    with pytest.raises(UsageError, match=f"lacks the key '{key}'"):
        read_rows(digits)


def test_a_wrong_type_is_told(digits: dict[str, Any]) -> None:
    digits["models"] = [1, 2]
    with pytest.raises(UsageError, match=r"report\.json cannot be read"):
        read_rows(digits)


def test_an_interval_that_says_nothing_is_not_shown(digits: dict[str, Any]) -> None:
    """Two rounds may differ so much that their interval reaches from 0 to days."""
    row = next(row for row in digits["models"] if row["kind"] == "onnx")
    row["latency"][0].update(p50_ci95_ms=[0.0, 294504071.1], p90_ci95_ms=[1.1e-05, 2640.2], speedup_ci95=[0.5, 2.0])
    latency = read_rows(digits).files[0].on("local")
    assert latency is not None and latency.p50_ci95_ms is None and latency.p90_ci95_ms is None
    assert latency.speedup_ci95 == (0.5, 2.0)
