from typing import Any

import numpy as np
import pytest

from compress.profiling.latency import Latency, latency_rows
from compress.profiling.statistics import LEAST_ROUNDS
from compress.targets.settings import TargetSettings

QUICK, FULL = TargetSettings(), TargetSettings(mode="full")


def result(milliseconds: list[float], **more: Any) -> dict[str, Any]:
    """What the measuring program gives of one process."""
    run = {"batch": 1, "shapes": {"x": [1, 4]}, "samples_ns": [1e6 * ms for ms in milliseconds], "peak_bytes": 900}
    return {"runs": [run], "load_ms": 2.0, "base_bytes": 500, **more}


def test_in_quick_mode_the_tail_is_that_of_the_calls_made() -> None:
    (row,) = latency_rows(QUICK, [result([1.0, 2.0, 3.0]), result([1.5, 2.5, 9.0])])
    assert (row.mode, row.p90_ms, row.p99_ms, row.not_established) == ("quick", 9.0, 9.0, {})
    assert row.peak_memory_bytes == 400 and row.gpu_memory_bytes is None


@pytest.mark.parametrize(
    ("calls", "missing"), [(63, {"p90_ms", "p99_ms"}), (64, {"p99_ms"}), (661, {"p99_ms"}), (662, set())]
)
def test_in_full_mode_a_percentile_has_enough_calls_or_a_reason(calls: int, missing: set[str]) -> None:
    milliseconds = list(np.random.default_rng(0).gamma(3.0, size=calls))
    (row,) = latency_rows(FULL, [result(milliseconds[:30]), result(milliseconds[30:])])
    assert {key for key in ("p90_ms", "p99_ms") if getattr(row, key) is None} == missing == set(row.not_established)
    for key, needed in (("p90_ms", 64), ("p99_ms", 662)):
        if key in missing:
            assert f"{calls} calls are too few: at 99% confidence it takes {needed}" in row.not_established[key]
    if 64 <= calls < 100:
        assert row.p90_ms == max(milliseconds)  # of so few calls it is the slowest


def test_throughput_is_the_greatest_over_the_batch_sizes() -> None:
    def bulk(batch: int, speed: float, joules: float) -> dict[str, Any]:
        return {"batch": batch, "examples_per_second": speed, "joules_per_example": {"rapl": joules}}

    rounds = [
        result([1.0, 1.0], throughput=[bulk(8, speed, 0.004), bulk(32, speed + 20, joules)])
        for speed, joules in ((100, 0.001), (110, 0.003), (300, 0.002))
    ]
    (row,) = latency_rows(QUICK, [*rounds, result([1.0, 1.0])])
    assert [(entry["batch"], entry["examples_per_second"]) for entry in row.offline] == [(8, 110), (32, 130)]
    assert row.throughput_per_s == 130 and row.energy_mj == {"rapl": 2.0}


def test_without_throughput_and_meters_nothing_is_made_up() -> None:
    (row,) = latency_rows(QUICK, [result([1.0]), result([1.0])])
    assert (row.throughput_per_s, row.offline, row.energy_mj) == (0.0, [], None)
    (row,) = latency_rows(QUICK, [result([1.0], throughput=[{"batch": 8, "examples_per_second": 5.0}])] * 2)
    assert row.throughput_per_s == 5.0 and row.energy_mj is None


def test_the_gpus_memory_is_what_more_was_in_use() -> None:
    rounds = [result([1.0], gpu_base_bytes=1000) for _ in range(3)]
    for found, used in zip(rounds, (1500, 1800, 1600), strict=True):
        found["runs"][0]["gpu_bytes"] = used
    assert latency_rows(QUICK, rounds)[0].gpu_memory_bytes == 600
    (row,) = latency_rows(QUICK, rounds)
    assert Latency.from_row(row.row()) == row


@pytest.mark.parametrize(("rounds", "known"), [(1, False), (2, False), (LEAST_ROUNDS - 1, False), (LEAST_ROUNDS, True)])
def test_of_too_few_rounds_there_is_no_interval(rounds: int, known: bool) -> None:
    (row,) = latency_rows(QUICK, [result([1.0, 2.0 + at / 10, 3.0]) for at in range(rounds)])
    assert (row.p50_ci95_ms is not None) is known is (row.row()["p50_ci95_ms"] is not None)
    assert Latency.from_row(row.row()) == row
