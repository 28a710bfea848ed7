from __future__ import annotations

import pytest

from compress.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.09812, "0.0981"),
        (4.12, "4.12"),
        (9.996, "10.0"),
        (412.4, "412"),
        (12345, "12300"),
        (0, "0"),
        (-0.25, "−0.250"),
    ],
)
def test_rounded_keeps_three_significant_digits(value: float, text: str) -> None:
    assert words.rounded(value) == text


def test_rounded_is_near_for_all_magnitudes() -> None:
    for power in range(-6, 7):
        for digits in range(100, 1000, 7):
            value = digits * 10.0**power * 1.00004
            assert float(words.rounded(value)) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("value", "text"), [(1.036, "1.04x"), (4.31, "4.3x"), (12.96, "13.0x"), (123.4, "123x"), (0.5, "0.50x")]
)
def test_ratio(value: float, text: str) -> None:
    assert words.ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (318_400, "318 kB"),
        (999_999, "1.00 MB"),
        (1.1e7, "11.0 MB"),
        (3e9, "3.00 GB"),
    ],
)
def test_size(value: float, text: str) -> None:
    assert words.size(value) == text


def test_other_units() -> None:
    assert words.percent(0.98611) == "98.61 %"
    assert words.points(-0.00278) == "−0.28 points"
    assert words.milliseconds(0.11812) == "0.118 ms"
    assert words.rate(13_512.3) == "13,500"
    assert words.rate(7.123) == "7.12"
    assert words.count(2_742_858) == "2.74 M"
    assert words.count(640) == "640"
    assert [words.seconds(value) for value in (2.44, 117.2, 1500, 7500)] == ["2.4 s", "117 s", "25 min", "2 h 5 min"]


def test_interval_writes_a_shared_unit_once() -> None:
    assert words.interval((0.972, 0.994), words.percent) == "97.20 to 99.40 %"
    assert words.interval((5.7, 5.9), words.ratio) == "5.7x to 5.9x"
    assert words.interval((900, 1100), words.size) == "900 B to 1.10 kB"


def test_metrics_are_written_by_what_they_are() -> None:
    assert words.metric_value("accuracy", 0.9861) == "98.61 %"
    assert words.metric_value("mse", 0.012341) == "0.01234"
    assert words.metric_name("top5_accuracy") == "top5 accuracy"
    assert words.metric_name("mse") == "MSE"


def test_long_names_stay_told_apart() -> None:
    names = [f"a-very-long-company-prefix-{part}-and-a-suffix-v2" for part in ("teacher", "student", "student-int8")]
    short = words.told_apart(names, 24)
    assert len(set(short.values())) == 3
    assert all(len(text) <= 24 for text in short.values())
    assert "teacher" in short[names[0]] and "student-int8" in short[names[2]]
    assert words.told_apart(["a", "b" * 50], 10) == {"a": "a", "b" * 50: words.shortened("b" * 50, 10)}
    assert len(words.shortened("x" * 100, 20)) == 20
