"""The targets side by side: what to deploy on each, and what that file costs and is worth there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compress.report.cells import Cell
from compress.report.columns import Column, measured_columns
from compress.report.comparison import compare
from compress.report.rows import Model, Report
from compress.report.table import Row, Table
from compress.report.words import ABSENT, interval, metric_change, metric_name, shortened, signed_loss

EMULATED = "emulated: its times say nothing, and are compared with none"


@dataclass(frozen=True)
class TargetsSection:
    """A column a target; `sentences` say what to deploy on each and why."""

    sentences: tuple[str, ...]
    table: Table


def targets_section(report: Report) -> TargetsSection | None:
    """None where files were measured in one place only."""
    if len(report.targets) < 2:
        return None
    told = {target: told_on(report, target) for target in report.targets}
    lines: list[tuple[str, Callable[[str], Cell | None]]] = [
        ("file", lambda target: _deployed(report, target, told[target])),
        ("runs on", lambda target: _machine(report, target)),
    ]
    for column in measured_columns(report):
        lines.append((column.heading, _told_by(report, column, told)))
        if column.heading == metric_name(report.metric):
            lines.append(("lost", lambda target: _of(told[target], lambda row: _lost(report, row, target))))
    rows = []
    for name, cell in lines:
        cells = [cell(target) for target in report.targets]
        if any(found is not None for found in cells):
            rows.append(Row((Cell(name), *(found or Cell(ABSENT) for found in cells))))
    headings = ("", *(shortened(target, 40) for target in report.targets))
    return TargetsSection(tuple(_sentence(report, target) for target in report.targets), Table(headings, tuple(rows)))


def told_on(report: Report, target: str) -> Model | None:
    """The file that a target is told of by: the one to deploy there, else that which came nearest, else the main one.

    Where nothing was decided, as on an emulated machine, it is the file that is told of everywhere.
    """
    place = report.place(target)
    chosen = report.row(place.deploy or place.judged) if place is not None else None
    chosen = chosen or report.told
    return chosen if chosen is not None and chosen.on(target) is not None else None


def _sentence(report: Report, target: str) -> str:
    place = report.place(target)
    if report.is_emulated(target):
        return f"{target} is {EMULATED}; its answers count."
    if place is None or place.met is None:
        return f"{target}: nothing was decided{f' ({place.reason})' if place is not None and place.reason else ''}."
    what = f"deploy {place.deploy}" if place.deploy else "nothing meets the budget"
    return f"On {target}: {what} ({place.reason})."


def _deployed(report: Report, target: str, told: Model | None) -> Cell | None:
    place = report.place(target)
    if told is None:
        return None
    if report.is_emulated(target):
        return Cell(told.name, "not decided here: emulated")
    if place is None or place.met is None:
        return Cell(told.name, "")
    return Cell(told.name, "deploy" if place.deploy else "nearest; misses the budget")


def _machine(report: Report, target: str) -> Cell | None:
    place = report.place(target)
    if place is None or not place.processor:
        return None
    return Cell(place.processor, "emulated" if report.is_emulated(target) else place.runtime or "")


def _of(model: Model | None, cell: Callable[[Model], Cell | None]) -> Cell | None:
    return None if model is None else cell(model)


def _lost(report: Report, model: Model, target: str) -> Cell | None:
    compared = compare(report, model, target)
    if compared is None or compared.loss is None:
        return None
    sign = "" if compared.loss >= 0 else "gains "
    ends = compared.loss_ci95
    note = interval(ends, lambda end: signed_loss(report.metric, end)) if ends else ""
    return Cell(sign + metric_change(report.metric, compared.loss), note)


def _told_by(report: Report, column: Column, told: Mapping[str, Model | None]) -> Callable[[str], Cell | None]:
    """A column's cell for the file that each target is told of by."""

    def cell(target: str) -> Cell | None:
        if column.heading == "speedup" and report.is_emulated(target):
            return None if told[target] is None else Cell("not compared", "emulated")
        return _of(told[target], lambda row: column.cell(row, target))

    return cell
