from __future__ import annotations

from typing import Any

from compress.report.method import method
from compress.report.reading import read_rows
from tests.report.measured_logs import all_measured, two_rounds


def said(report: dict[str, Any], about: str) -> list[str]:
    return [sentence for sentence in method(read_rows(report)) if sentence.startswith(about)]


def bulk(report: dict[str, Any], target: str, *batches: int) -> None:
    for row in report["models"]:
        for entry in row["latency"]:
            if entry["target"] == target:
                entry["offline"] = [{"batch": batch, "examples_per_second": 10.0 * batch} for batch in batches]


def test_the_batch_size_of_throughput_is_told_as_it_was(digits: dict[str, Any], variants: dict[str, Any]) -> None:
    assert said(digits, "Examples a second") == []  # nothing tells at which it was measured
    bulk(digits, "local", 1)
    assert said(digits, "Examples a second") == ["Examples a second (examples/s) are measured at batch 1."]
    bulk(digits, "local", 8, 32)
    (several,) = said(digits, "Examples a second")
    assert several.endswith("are measured at batch sizes 8 and 32; of each file its best counts.")


def test_targets_that_differ_have_their_own_batch_sizes(variants: dict[str, Any]) -> None:
    import copy

    report = copy.deepcopy(variants["several targets"])
    for target in ("local", "jetson-orin", "raspberry-pi-5"):
        bulk(report, target, 32)
    assert len(said(report, "Examples a second")) == 1
    bulk(report, "jetson-orin", 4)
    assert "Examples a second (examples/s) on jetson-orin are measured at batch 4." in method(read_rows(report))
    assert len(said(report, "Examples a second")) == 3


def test_what_was_measured_is_explained_and_nothing_else(digits: dict[str, Any]) -> None:
    for about in ("GPU memory", "Energy", "Copies"):
        assert said(digits, about) == []
    all_measured(digits)
    for about in ("GPU memory", "Energy", "Copies"):
        assert len(said(digits, about)) == 1
    assert "counted by nvml and rapl" in said(digits, "Energy")[0]


def test_too_few_rounds_are_said_to_be(digits: dict[str, Any]) -> None:
    assert said(digits, "Of 2 rounds") == []
    two_rounds(digits)
    assert said(digits, "Of 2 rounds") == ["Of 2 rounds there is no interval of times: it takes 5."]
    assert said(digits, "Intervals are") == []
