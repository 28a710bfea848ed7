from __future__ import annotations

import math
from typing import Any

import pytest

from compress.report.comparison import compare, difference_interval, ratio_interval
from compress.report.reading import read_rows


def test_difference_interval_gives_newcombes_published_example() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 = 0.2 has the interval 0.0524 to 0.3339."""

    def wilson(right: int, of: int) -> tuple[float, float]:
        z, share = 1.959964, right / of
        middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
        return ((middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of))

    found = difference_interval(56 / 70, wilson(56, 70), 48 / 80, wilson(48, 80))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_ratio_interval_is_that_of_logarithms() -> None:
    low, high = ratio_interval(4.0, (3.8, 4.2), 2.0, (1.9, 2.1)) or (0.0, 0.0)
    assert low < 2 < high
    assert low == pytest.approx(2 * math.exp(-math.hypot(math.log(4 / 3.8), math.log(2.1 / 2))))
    assert ratio_interval(4.0, (4.0, 4.0), 2.0, (2.0, 2.0)) == pytest.approx((2, 2))
    assert ratio_interval(4.0, None, 2.0, (1.9, 2.1)) is None


def test_compares_with_the_reference_file(digits: dict[str, Any]) -> None:
    report = read_rows(digits)
    assert report.reference_file is not None and report.reference_file.name == "teacher-fp32"
    assert compare(report, report.reference_file) is None
    found = compare(report, report.files[2])
    assert found is not None and found.speedup is not None and found.speedup_ci95 is not None
    p50 = [digits["models"][at]["latency"][0]["p50_ms"] for at in (4, 6)]
    assert found.speedup == pytest.approx(p50[0] / p50[1])
    assert found.speedup_ci95[0] < found.speedup < found.speedup_ci95[1]
    assert found.size_ratio == pytest.approx(10_984_211 / 318_400)
    assert found.loss == pytest.approx(2 / 360)


def test_a_direct_interval_is_taken_as_it_is(digits: dict[str, Any]) -> None:
    digits["models"][6]["latency"][0]["speedup_ci95"] = [12.0, 14.0]
    digits["models"][6]["metrics"]["accuracy_drop_ci95"] = [-0.001, 0.012]
    report = read_rows(digits)
    found = compare(report, report.files[2])
    assert found is not None
    assert found.speedup_ci95 == (12.0, 14.0)
    assert found.loss_ci95 == (-0.001, 0.012)


def test_a_lower_metric_can_be_the_better(variants: dict[str, dict[str, Any]]) -> None:
    report = read_rows(variants["regression"])
    found = compare(report, report.files[2])
    assert found is not None and found.loss is not None and found.loss_ci95 is not None
    assert found.loss == pytest.approx(0.01234 * 0.02)
    assert found.loss_ci95[0] < found.loss < found.loss_ci95[1]
