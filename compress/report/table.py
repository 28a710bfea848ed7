"""The tables of a report, once for every place that prints them: Markdown, the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.report import columns
from compress.report.cells import Cell, metric_cell, p50_cell
from compress.report.int8_rows import Quantized
from compress.report.int8_words import rung_lines
from compress.report.reading import read_rows
from compress.report.rows import Model, Report
from compress.report.words import (
    ABSENT,
    count,
    metric_name,
    metric_value,
    seconds,
    size,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Row:
    """One line; `mark` is `deploy`, `reference`, `kept` or empty."""

    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Headings and rows; the first column holds names, the others numbers unless they stand in `words`."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    words: frozenset[str] = frozenset()


DEVICE = "What else the device tells: energy of one example at the best batch size, copies, memory of the GPU."
Column = tuple[str, Callable[[Model], Cell | None]]


def files_table(report: Report, target: str | None = None) -> Table:
    """Every file that could be deployed, with its accuracy, latency on `target` (the main one by default) and size."""
    return _measured_table(report, report.files, target or report.target, frozenset({"answers", "times", "file"}))


def target_table(report: Report, target: str) -> Table:
    """The files on one more target, without what is the same everywhere; accuracy only if it was measured there."""
    judged = any(model.by_target.get(target) for model in report.files)
    about = frozenset({"answers", "times"} if judged else {"times"})
    measured = tuple(model for model in report.files if model.on(target) is not None)
    return _measured_table(report, measured, target, about)


def device_table(report: Report, target: str) -> Table:
    """Energy, copies and memory of the GPU, of the files whose device tells them; no rows where none does.

    A table of its own: beside all other columns they are too wide for a page.
    """
    measured = tuple(model for model in report.files if model.on(target) is not None)
    table = _measured_table(report, measured, target, frozenset({"device"}))
    return table if len(table.headings) > 1 else Table(table.headings, ())


def _measured_table(report: Report, models: tuple[Model, ...], target: str | None, about: frozenset[str]) -> Table:
    def on_target(column: columns.Column) -> Column:
        return column.heading, lambda model: column.cell(model, target)

    shown = [on_target(column) for column in columns.measured_columns(report) if column.about in about]
    return _table(report, models, [("File", _named), *shown], target=target)


def models_table(report: Report) -> Table:
    """The PyTorch models on the way: what each stage left, judged on validation data."""
    told: list[Column] = [
        ("Model", lambda model: Cell(model.name)),
        ("stage", lambda model: Cell(model.stage)),
        ("made from", lambda model: _cell(model.parent, str)),
        ("parameters", lambda model: _cell(model.parameters, count)),
        ("MACs", lambda model: _cell(model.macs, count)),
        ("weights", lambda model: _cell(model.size_bytes, size)),
        (f"validation {metric_name(report.metric)}", lambda model: _validation(report, model)),
        (f"test {metric_name(report.metric)}", lambda model: metric_cell(report, model)),
        ("p50 ms", lambda model: p50_cell(model.on(report.target))),
    ]
    models = tuple(model for model in report.models if not model.is_file)
    return _table(report, models, told, frozenset({"stage", "made from"}))


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown, padded so that it reads as text too."""
    words = [at == 0 or heading in table.words for at, heading in enumerate(table.headings)]
    lines = [[heading.replace("|", "\\|") for heading in table.headings]]
    for row in table.rows:
        texts = [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row.cells]
        lines.append([text.replace("|", "\\|") for text in texts])
        if row.mark in ("deploy", "kept"):
            lines[-1] = [f"**{text}**" if at == 0 else text for at, text in enumerate(lines[-1])]
    widths = [max(3, *(len(line[at]) for line in lines)) for at in range(len(table.headings))]
    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, words, strict=True)]
    padded = [
        [
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(line, widths, words, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]]) + "\n"


def terminal_table(report: Mapping[str, Any]) -> RichTable:
    """The files for the terminal, from `report.json`'s dictionary: few columns, so that 80 characters hold them."""
    from rich.table import Table as RichTable
    from rich.text import Text

    rows = read_rows(report)
    table = files_table(rows)
    shown = [metric_name(rows.metric), "p50 ms", "speedup", "size", "in int8"]
    kept = [at for at, heading in enumerate(table.headings) if at == 0 or heading in shown]
    drawn = RichTable(title=rows.name, title_justify="left", caption=Text(_caption(rows)), caption_justify="left")
    for at in kept:
        drawn.add_column(Text(table.headings[at]), justify="right" if at else "left", overflow="fold", no_wrap=at > 0)
    for row in table.rows:
        name, *numbers = (Text(row.cells[at].text) for at in kept)
        name.append({"deploy": "  deploy", "reference": "  reference"}.get(row.mark, ""), style="dim")
        drawn.add_row(name, *numbers, style="bold green" if row.mark == "deploy" else None)
    return drawn


def deploy_line(report: Mapping[str, Any]) -> str:
    """Which file to deploy and why, from `report.json`'s dictionary."""
    return f"deploy: {report['deploy'] or 'nothing'} ({report['deploy_reason']})"


def _caption(report: Report) -> str:
    """What the numbers are of, which rungs were climbed for int8, and whether it pays."""
    lines = [f"p50 and speedup on {report.target}, against the reference"] if report.target else []
    climbed: list[Quantized] = []
    for model in report.models:
        if model.quantized is not None and model.quantized not in climbed:
            climbed.append(model.quantized)
            lines += rung_lines(report.metric, model.quantized)
    if report.int8 is not None and report.int8.said != report.deploy_reason:
        lines.append(report.int8.said)
    if report.int8 is not None and not report.int8.pays:
        lines += [f"- {reason}" for reason in report.int8.reasons]
    return "\n".join(lines)


def _table(
    report: Report,
    models: tuple[Model, ...],
    told: list[Column],
    words: frozenset[str] = frozenset(),
    target: str | None = None,
) -> Table:
    """Columns that no row fills are left out."""
    filled = [(heading, [cell(model) for model in models]) for heading, cell in told]
    filled = [(heading, cells) for heading, cells in filled if any(cell is not None for cell in cells)]
    rows = []
    deployed = report.deployed_on(target) if target else report.deployed
    for at, model in enumerate(models):
        mark = "deploy" if model is deployed else "reference" if model is report.reference_file else ""
        rows.append(Row(tuple(cells[at] or Cell(ABSENT) for _, cells in filled), mark))
    return Table(tuple(heading for heading, _ in filled), tuple(rows), words)


def _cell(value: Any, write: Callable[[Any], str]) -> Cell | None:
    return None if value is None else Cell(write(value))


def _named(model: Model) -> Cell:
    note = [part for part in (model.precision, model.profile) if part and part not in model.name]
    return Cell(model.name, ", ".join(note))


def _validation(report: Report, model: Model) -> Cell | None:
    return _cell(model.validation.get(report.metric), lambda value: metric_value(report.metric, value))


def steps_table(report: Report) -> Table:
    """The steps of the plan, in order."""
    rows = []
    for step in report.steps:
        took = ABSENT if step.seconds is None else seconds(step.seconds)
        cells = (
            Cell(step.name),
            Cell(step.stage),
            Cell(took),
            Cell("reused" if step.reused else "ran"),
            Cell(step.key[:12]),
        )
        rows.append(Row(cells))
    return Table(("Step", "stage", "took", "this run", "key"), tuple(rows), frozenset({"stage", "this run", "key"}))
