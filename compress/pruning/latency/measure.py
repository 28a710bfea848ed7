"""Measuring a latency table: every kind of layer at several channel counts, by the runtime on the target itself."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.torch_onnx import save
from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.micro import MARK, layers_model
from compress.pruning.latency.table import Grid, LatencyTable
from compress.stage import Progress
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings

ROUNDS = 4
"""Fresh processes for each kind of layer. The fastest one counts: what else runs on a machine only makes it slower."""
MOVING = frozenset({"ReorderInput", "ReorderOutput", "Transpose", "QuantizeLinear", "DequantizeLinear"})
"""Operators at the borders of a small graph, which stand between layers of a network nowhere, or rarely."""
Widths = Mapping[LayerKind, tuple[Sequence[int], Sequence[int]]]
"""For each kind of layer the input and output channel counts to measure."""


def measure_table(
    widths: Widths,
    target: TargetSettings,
    emission: str,
    batch: int,
    progress: Progress,
    *,
    seconds: float = 0.15,
    rounds: int = ROUNDS,
) -> LatencyTable:
    """Time all layers on `target` as files of `emission` have them, at `batch`.

    Args:
        widths: what to measure.
        target: where.
        emission: `fp32`, or an int8 one.
        batch: examples at a time.
        progress: where to say how far it is.
        seconds: spent on each kind of layer in each round, at least five calls.
        rounds: of fresh processes.

    Raises:
        StageError: a layer fails when it is run.
    """
    request = {"batch": batch, "seconds": seconds, "minimum_calls": 5}
    found: dict[LayerKind, list[list[float]]] = {kind: [] for kind in widths}
    with tempfile.TemporaryDirectory(prefix="compress-layers-") as folder:
        jobs: dict[str, Any] = {}
        for number, kind in enumerate(widths):
            path = Path(folder) / f"{number}.onnx"
            save(_file(kind, points_of(widths[kind]), batch, emission), path)
            jobs[str(number)] = {"model": str(path), "operators": request}
        with progress.task(f"timing {len(jobs)} kinds of layers on {target.name}", rounds) as advance:
            for _ in range(rounds):
                done, _ = run_jobs(target, jobs)
                for kind, result in zip(widths, done.values(), strict=True):
                    found[kind].append(_points(result["operators"], len(points_of(widths[kind]))))
                advance(1)
    grids = {kind: _grid(kind, widths[kind], rounds_of) for kind, rounds_of in found.items()}
    return LatencyTable(batch, grids)


def points_of(widths: tuple[Sequence[int], Sequence[int]]) -> list[tuple[int, int]]:
    """All pairs of channel counts; where there are no input channels, those are the outputs'."""
    inputs, outputs = widths
    return [(i, j) for i in inputs for j in outputs] if inputs else [(j, j) for j in outputs]


def _file(kind: LayerKind, points: Sequence[tuple[int, int]], batch: int, emission: str) -> Any:
    proto = layers_model(kind, points, batch, int8=emission != "fp32")
    return proto if emission == "fp32" or kind.operator == "attention" else EMISSIONS[emission](proto)


def _points(operators: Sequence[Mapping[str, Any]], count: int) -> list[float]:
    """Microseconds of each layer: of all operators that the runtime made of it, but those at its borders."""
    total = [0.0] * count
    for operator in operators:
        number = re.match(rf"{MARK}(\d+)_", operator["name"])
        if number and operator["operator"] not in MOVING:
            total[int(number[1])] += operator["microseconds"]
    return total


def _grid(kind: LayerKind, widths: tuple[Sequence[int], Sequence[int]], rounds: Sequence[Sequence[float]]) -> Grid:
    inputs, outputs = (tuple(numbers) for numbers in widths)
    best = [min(times) for times in zip(*rounds, strict=True)]
    spreads = [(max(t) - min(t)) / median(t) for t in zip(*rounds, strict=True) if median(t) > 0]
    columns = len(outputs)
    rows = tuple(tuple(best[start : start + columns]) for start in range(0, len(best), columns))
    return Grid(kind, inputs, outputs, rows, median(spreads) if spreads else 0.0)
