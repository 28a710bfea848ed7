"""Real measurements, of layers so unlike that noise cannot turn them round; and how the runtime's answers are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.measure import ROUNDS, _grid, _points, measure_table, points_of
from compress.stage import Silent
from compress.targets.settings import TargetSettings
from compress.targets.target import emissions
from tests.pruning.latency.layer_kinds import KINDS

TARGET = TargetSettings()
WIDE = LayerKind("conv", (12, 12), (3, 3), (1, 1), (1, 1), (1, 1))


class Counting(Silent):
    """Notes what was done."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int | None]] = []
        self.steps = 0

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        def advance(steps: int = 1, note: str = "") -> None:
            self.steps += steps

        self.tasks.append((description, total))
        yield advance


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_more_channels_take_longer(precision: str) -> None:
    emission = next(name for name in emissions(TARGET) if (name == "fp32") == (precision == "fp32"))
    widths = {WIDE: ((16, 256), (16, 256)), KINDS["row"]: ((16, 1024), (16, 1024))}
    progress = Counting()
    table = measure_table(widths, TARGET, emission, 1, progress, seconds=0.02, rounds=2)
    assert table.batch == 1
    for kind, grid in table.grids.items():
        assert 0 < 4 * grid.microseconds[0][0] < grid.microseconds[1][1], kind
        assert 0 <= grid.noise < float("inf")
        assert (grid.kind, grid.inputs, grid.outputs) == (kind, *widths[kind])
    assert progress.tasks == [("timing 2 kinds of layers on local", 2)]
    assert progress.steps == 2


def test_every_kind_is_measured() -> None:
    joint = ("depthwise", "attention")
    widths = {kind: (() if kind.operator in joint else (8, 16), (8, 16)) for kind in KINDS.values()}
    table = measure_table(widths, TARGET, "fp32", 2, Silent(), seconds=0.005, rounds=1)
    for kind, grid in table.grids.items():
        assert len(grid.microseconds) == (1 if kind.operator in joint else 2)
        assert all(time > 0 for row in grid.microseconds for time in row), kind
        assert grid.noise == 0  # one round has nothing to differ from


def test_all_operators_of_a_layer_count_but_those_at_its_borders() -> None:
    told = [
        {"name": "point0_layer", "operator": "ConvTranspose", "microseconds": 9.0},
        {"name": "point0_relu", "operator": "Relu", "microseconds": 3.0},
        {"name": "point1_relu_nchwc", "operator": "Conv", "microseconds": 12.0},
        {"name": "point10_layer/MatMulAddFusion", "operator": "Gemm", "microseconds": 5.0},
        {"name": "point1_x_quantized", "operator": "QuantizeLinear", "microseconds": 100.0},
        {"name": "point0_rounded", "operator": "DequantizeLinear", "microseconds": 100.0},
        {"name": "ReorderOutput_token_6", "operator": "ReorderOutput", "microseconds": 100.0},
        {"name": "Transpose", "operator": "Transpose", "microseconds": 100.0},
    ]
    assert _points(told, 11) == [12.0, 12.0, *[0.0] * 8, 5.0]


def test_points_are_all_pairs_or_the_outputs() -> None:
    assert points_of(((1, 2), (3, 4))) == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert points_of(((), (3, 4))) == [(3, 3), (4, 4)]


def test_a_grid_holds_the_fastest_and_the_median_spread_of_rounds() -> None:
    rounds = [[11.0, 22.0, 33.0, 0.0], [10.0, 20.0, 30.0, 0.0], [11.0, 22.0, 33.0, 0.0], [12.0, 30.0, 36.0, 0.0]]
    grid = _grid(WIDE, ((1, 2), (3, 4)), rounds)
    assert grid.microseconds == ((10.0, 20.0), (30.0, 0.0))
    assert grid.noise == pytest.approx(2 / 11)  # of 2/11, 10/22 and 6/33
    assert len(rounds) == ROUNDS
