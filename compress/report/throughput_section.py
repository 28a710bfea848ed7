"""Offline throughput: examples a second over batch sizes, and the size that is best for each file."""

from __future__ import annotations

from dataclasses import dataclass

from compress.report.cells import Cell
from compress.report.rows import Model, Offline, Report
from compress.report.table import Row, Table
from compress.report.words import ABSENT, rate, rounded


@dataclass(frozen=True)
class ThroughputSection:
    """The files of one target in rows, batch sizes in columns."""

    target: str
    caption: str
    table: Table


def throughput_sections(report: Report) -> tuple[ThroughputSection, ...]:
    """One for each real target where throughput was measured at more than one batch size."""
    real = [target for target in report.targets if not report.is_emulated(target)]
    return tuple(section for target in real if (section := _on(report, target)) is not None)


def _on(report: Report, target: str) -> ThroughputSection | None:
    measured = {model.name: _offline(model, target) for model in report.files}
    batches = sorted({batch for bulk in measured.values() for batch in bulk})
    if len(batches) < 2:
        return None
    rows = []
    for model in report.files:
        if bulk := measured[model.name]:
            best = max(bulk.values(), key=lambda one: one.examples_per_second)
            cells = [_cell(bulk.get(batch), best) for batch in batches]
            mark = "deploy" if model is report.deployed_on(target) else ""
            rows.append(Row((Cell(model.name), *cells, Cell(str(best.batch))), mark))
    caption = f"Examples a second on {target} by batch size."
    if any(one.millijoules for bulk in measured.values() for one in bulk.values()):
        caption += " Small: millijoules of one example, idle included."
    headings = ("File", *(f"batch {batch}" for batch in batches), "best batch")
    return ThroughputSection(target, caption, Table(headings, tuple(rows)))


def _offline(model: Model, target: str) -> dict[int, Offline]:
    latency = model.in_bulk_on(target)
    return {} if latency is None else {bulk.batch: bulk for bulk in latency.offline}


def _cell(bulk: Offline | None, best: Offline) -> Cell:
    if bulk is None:
        return Cell(ABSENT)
    energy = f"{rounded(max(bulk.millijoules.values()))} mJ" if bulk.millijoules else ""
    return Cell(rate(bulk.examples_per_second), ", ".join(filter(None, ["best" if bulk is best else "", energy])))
