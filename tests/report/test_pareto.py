from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

from compress.report.pareto import Point, front, pareto, points_of
from compress.report.reading import read_rows
from tests.report.target_logs import side_by_side


def point(p90_ms: float, value: float, like: Point) -> Point:
    return replace(like, p90_ms=p90_ms, value=value)


def test_the_front_is_what_no_other_point_beats(digits: dict[str, Any]) -> None:
    like, chance = points_of(read_rows(digits))[0], random.Random(0)
    for higher in (True, False):
        points = [point(chance.choice(range(1, 30)), chance.choice(range(30)), like) for _ in range(60)]
        kept = front(points, higher)
        sign = 1 if higher else -1
        for one in points:
            beaten = any(
                other.p90_ms <= one.p90_ms
                and sign * other.value >= sign * one.value
                and (other.p90_ms, other.value) != (one.p90_ms, one.value)
                for other in points
            )
            numbers = {(other.p90_ms, other.value) for other in kept}
            assert beaten != ((one.p90_ms, one.value) in numbers)
        assert [one.p90_ms for one in kept] == sorted({one.p90_ms for one in kept})


def test_every_file_of_every_target_is_a_point_with_the_accuracy_of_there(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    report = read_rows(digits)
    points = points_of(report)
    assert len(points) == 3 * len(report.files)
    there = next(one for one in points if one.target == "raspberry-pi-5")
    assert there.value == there.model.by_target["raspberry-pi-5"]["accuracy"]
    assert {one.target for one in points if one.emulated} == {"arm64-emulated"}


def test_the_picture_has_a_legend_by_target_and_says_what_is_emulated(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    drawn = pareto(read_rows(digits))
    assert drawn is not None
    svg, caption = drawn
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"local", "raspberry-pi-5", "arm64-emulated (emulated)", "p90, ms"} <= set(words)
    assert "Hollow marks" in caption and "Pareto front" in caption and "var(--accent)" in svg


def test_a_p90_that_was_not_established_is_no_point(digits: dict[str, Any]) -> None:
    for row in digits["models"]:
        for entry in row["latency"]:
            entry["p90_ms"] = None
    assert pareto(read_rows(digits)) is None
