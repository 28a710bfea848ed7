"""The columns of what was measured of a file on a target, once for every table that tells of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compress.report.cells import (
    Cell,
    agreement_cell,
    energy_cell,
    load_cell,
    memory_cell,
    metric_cell,
    p50_cell,
    percentile_cell,
    size_cell,
    speedup_cell,
    throughput_cell,
    transfers_cell,
)
from compress.report.rows import Model, Report
from compress.report.words import metric_name, percent


@dataclass(frozen=True)
class Column:
    """A heading and what stands under it for a file on a target, None where it was not measured.

    `about` tells what the number depends on: `answers` that the file gave, its `times` on the target, what else
    the `device` counts, or the `file` alone, which is the same everywhere.
    """

    heading: str
    about: str
    cell: Callable[[Model, str | None], Cell | None]


def measured_columns(report: Report) -> tuple[Column, ...]:
    """In the order in which they are shown."""
    return (
        Column(metric_name(report.metric), "answers", lambda model, on: metric_cell(report, model, on)),
        Column("agreement", "answers", lambda model, on: agreement_cell(report, model, on)),
        Column("p50 ms", "times", lambda model, on: p50_cell(model.on(on))),
        Column("p90 ms", "times", lambda model, on: percentile_cell(model.on(on), "p90_ms")),
        Column("p99 ms", "times", lambda model, on: percentile_cell(model.on(on), "p99_ms")),
        Column("speedup", "times", lambda model, on: speedup_cell(report, model, on)),
        Column("size", "file", lambda model, on: size_cell(report, model)),
        Column("examples/s", "times", lambda model, on: throughput_cell(model.in_bulk_on(on))),
        Column("energy mJ", "device", lambda model, on: energy_cell(model.in_bulk_on(on))),
        Column("copies ms", "device", lambda model, on: transfers_cell(model.on(on))),
        Column("memory", "times", lambda model, on: memory_cell(model.on(on), "peak_memory_bytes")),
        Column("GPU memory", "device", lambda model, on: memory_cell(model.on(on), "gpu_memory_bytes")),
        Column("load ms", "times", lambda model, on: load_cell(model.on(on))),
        Column("in int8", "file", lambda model, on: _int8_share(model)),
    )


def _int8_share(model: Model) -> Cell | None:
    return None if model.int8_share is None else Cell(percent(model.int8_share, 0))
