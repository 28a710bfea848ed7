from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.table import Grid, LatencyTable
from tests.pruning.latency.layer_kinds import KINDS

INPUTS, OUTPUTS = (8, 16, 48), (4, 20, 24, 64)
TIMES = np.random.default_rng(0).uniform(1, 50, (len(INPUTS), len(OUTPUTS)))
GRID = Grid(KINDS["conv"], INPUTS, OUTPUTS, tuple(tuple(row) for row in TIMES.tolist()), 0.03)
ROW = Grid(KINDS["depthwise"], (), OUTPUTS, (GRID.microseconds[0],), 0.01)
TABLE = LatencyTable(4, {GRID.kind: GRID, ROW.kind: ROW})


def test_at_its_points_it_says_what_was_measured() -> None:
    for i, inputs in enumerate(INPUTS):
        for j, outputs in enumerate(OUTPUTS):
            assert TABLE.microseconds(GRID.kind, inputs, outputs) == pytest.approx(TIMES[i, j])


def test_between_points_it_is_numpys_interpolation() -> None:
    for inputs in range(INPUTS[0], INPUTS[-1] + 1, 5):
        for outputs in range(OUTPUTS[0], OUTPUTS[-1] + 1, 3):
            columns = [np.interp(outputs, OUTPUTS, row) for row in TIMES]
            assert GRID.at(inputs, outputs) == pytest.approx(np.interp(inputs, INPUTS, columns))


def test_layers_with_one_axis_have_one_row() -> None:
    for outputs in range(OUTPUTS[0], OUTPUTS[-1] + 1):
        assert ROW.at(outputs, outputs) == pytest.approx(np.interp(outputs, OUTPUTS, TIMES[0]))


def test_outside_it_goes_on_as_at_its_border_and_never_below_zero() -> None:
    line = Grid(KINDS["depthwise"], (), (8, 16, 24), ((10.0, 30.0, 70.0),), 0.0)
    assert line.at(32, 32) == pytest.approx(110)
    assert line.at(6, 6) == pytest.approx(5)
    assert line.at(1, 1) == 0.0


def test_one_point_holds_everywhere() -> None:
    point = Grid(KINDS["row"], (16,), (10,), ((7.0,),), 0.0)
    assert point.at(16, 10) == point.at(4, 30) == 7.0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_grid_survives_a_file(kind: LayerKind, tmp_path: Path) -> None:
    grid = Grid(kind, INPUTS, OUTPUTS, GRID.microseconds, 0.03)
    (tmp_path / "grid.json").write_text(json.dumps(grid.plain()))
    assert Grid.from_plain(json.loads((tmp_path / "grid.json").read_text())) == grid
