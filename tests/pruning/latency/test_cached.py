"""What was measured once is not measured again; `measure_table` is stood in for where that must be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compress.pruning.latency.cached import ShapeFile, table_for, times_for
from compress.pruning.latency.files import Measured
from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.measure import measure_table
from compress.pruning.latency.table import Grid, LatencyTable
from compress.pruning.shape import Shape
from compress.stage import Silent
from compress.targets.settings import TargetSettings
from tests.pruning.latency.layer_kinds import KINDS

TARGET = TargetSettings()
WIDTHS = {KINDS["row"]: ((8, 16), (8, 16)), KINDS["depthwise"]: ((), (8, 16))}
MEASURE = "compress.pruning.latency.cached.measure_table"


def refused(*anything: Any) -> LatencyTable:
    """Stands in for measuring."""
    raise AssertionError("it measured")


class Counted:
    """Stands in for measuring: tables of ones; notes which kinds were asked."""

    def __init__(self) -> None:
        self.asked: list[list[LayerKind]] = []

    def __call__(
        self, widths: Mapping[LayerKind, tuple[Sequence[int], Sequence[int]]], target: TargetSettings, emission: str,
        batch: int, progress: Silent,
    ) -> LatencyTable:  # fmt: skip
        self.asked.append(list(widths))
        grids = {
            kind: Grid(kind, tuple(i), tuple(o), ((1.0,) * len(o),) * max(1, len(i)), 0.0)
            for kind, (i, o) in widths.items()
        }
        return LatencyTable(batch, grids)


def test_a_second_time_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(*given: Any) -> LatencyTable:
        return measure_table(*given, seconds=0.001, rounds=1)

    monkeypatch.setattr(MEASURE, quick)
    once = table_for(WIDTHS, TARGET, "fp32", 1, Silent(), tmp_path / "layers")
    monkeypatch.setattr(MEASURE, refused)
    again = table_for(WIDTHS, TARGET, "fp32", 1, Silent(), tmp_path / "layers")
    assert again == once
    assert set(again.grids) == set(WIDTHS)
    assert len(list((tmp_path / "layers").iterdir())) == 2  # no scratch files


def test_only_what_is_missing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(MEASURE, counted)
    table_for({KINDS["row"]: WIDTHS[KINDS["row"]]}, TARGET, "fp32", 1, Silent(), tmp_path)
    table = table_for(WIDTHS, TARGET, "fp32", 1, Silent(), tmp_path)
    assert counted.asked == [[KINDS["row"]], [KINDS["depthwise"]]]
    assert list(table.grids) == list(WIDTHS)


@pytest.mark.parametrize(
    ("target", "emission", "batch", "outputs"),
    [
        ({"threads": 2}, "fp32", 1, (8, 16)),
        ({"cores": (0,)}, "fp32", 1, (8, 16)),
        ({"provider": "cuda"}, "fp32", 1, (8, 16)),
        ({}, "ort-x86", 1, (8, 16)),
        ({}, "fp32", 8, (8, 16)),
        ({}, "fp32", 1, (8, 24)),
    ],
)
def test_other_circumstances_are_measured_anew(
    target: dict[str, Any], emission: str, batch: int, outputs: tuple[int, int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    counted = Counted()
    monkeypatch.setattr(MEASURE, counted)
    for _ in range(2):
        table_for({KINDS["row"]: ((8,), (8, 16))}, TARGET, "fp32", 1, Silent(), tmp_path)
        other = TARGET.model_copy(update=target)
        table_for({KINDS["row"]: ((8,), outputs)}, other, emission, batch, Silent(), tmp_path)
    assert counted.asked == [[KINDS["row"]]] * 2


def test_another_processor_or_runtime_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(MEASURE, counted)
    table_for(WIDTHS, TARGET, "fp32", 1, Silent(), tmp_path)
    monkeypatch.setattr("compress.pruning.latency.cached.fingerprint", lambda target: "another")
    table_for(WIDTHS, TARGET, "fp32", 1, Silent(), tmp_path)
    assert len(counted.asked) == 2


def test_they_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MEASURE, Counted())
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    table_for(WIDTHS, TARGET, "fp32", 1, Silent())
    assert len(list((tmp_path / "layers").glob("*.json"))) == 2


def test_a_file_is_measured_once_for_each_structure_and_shape(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(
        what: str, kept: int, dropped: frozenset[str] = frozenset(), batch: int = 1, emission: str = "fp32"
    ) -> dict[str, float]:
        def measure() -> Measured:
            asked.append(what)
            return Measured({"whole": (2.0, 1.0), "floor": (1.0 + len(asked), 1.5)})

        shapes = {"whole": Shape({"a": 8}), "floor": Shape({"a": kept}, dropped)}
        files = {"whole": ShapeFile(shapes["whole"], "fp32"), "floor": ShapeFile(shapes["floor"], emission)}
        return times_for(what, files, TARGET, batch, measure, Silent(), tmp_path)

    assert ask("this", 4) == ask("this", 4) == {"whole": 2.0, "floor": 2.0}
    assert ask("other", 4) == {"whole": 2.0, "floor": 3.0}
    assert ask("this", 2)["floor"] == 4.0
    assert ask("this", 4, frozenset({"b"}))["floor"] == 5.0
    assert ask("this", 4, batch=8)["floor"] == 6.0
    assert ask("this", 4, emission="ort-x86")["floor"] == 7.0
    assert asked == ["this", "other", "this", "this", "this", "this"]


def test_what_was_measured_while_others_had_the_processor_is_not_kept(tmp_path: Path) -> None:
    def milliseconds(measured: Measured) -> float:
        files = {"whole": ShapeFile(Shape({"a": 8}), "fp32")}
        return times_for("this", files, TARGET, 1, lambda: measured, Silent(), tmp_path)["whole"]

    assert milliseconds(Measured({"whole": (6.0, 1.0)}, 0.5)) == 6.0
    assert milliseconds(Measured({"whole": (2.0, 1.0)}, 0.01)) == 2.0
    assert milliseconds(Measured({})) == 2.0


def test_how_sure_kept_times_are_is_said_again(tmp_path: Path) -> None:
    class Told(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    said: list[str] = []
    files = {"whole": ShapeFile(Shape({"a": 8}), "fp32")}
    for what, within in (("sure", 0.04), ("unsure", 0.12)):
        measured = Measured({"whole": (2.0, 1.0)}, 0.0, within)
        for _ in range(2):
            assert times_for(what, files, TARGET, 1, partial(replace, measured), Told(), tmp_path) == {"whole": 2.0}
    [line] = said  # when it was measured, `measure_files` said it
    assert "is known within 12% only" in line
