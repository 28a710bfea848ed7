"""Compared runs as tables, for the terminal and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compress.report.cells import Cell, metric_cell, p50_cell, percentile_cell, size_cell
from compress.report.compare_runs import RunsCompared
from compress.report.page import templates
from compress.report.rows import Latency, Report
from compress.report.table import Row, Table
from compress.report.words import ABSENT, metric_name, size

if TYPE_CHECKING:
    from rich.table import Table as RichTable

TEMPLATE = "compare.html.j2"
LONGEST = 60
"""Letters of a setting's value that are shown."""


def settings_table(compared: RunsCompared) -> Table:
    """A line for each setting that differs, a column for each run."""
    rows = tuple(
        Row((Cell(one.setting), *(Cell(_written(value)) for value in one.values))) for one in compared.settings
    )
    names = tuple(run.name for run in compared.runs)
    return Table(("Setting", *names), rows, frozenset(names))


def _written(value: Any) -> str:
    if value is None:
        return ABSENT
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def results_table(compared: RunsCompared) -> Table:
    """What each run tells of, a column for each: file, metric and size, then the times on every target."""
    lines = [("file", [_file(run.report) for run in compared.runs])]
    metrics = list(dict.fromkeys(run.report.metric for run in compared.runs))
    for metric in metrics:
        cells = [_metric(run.report) if run.report.metric == metric else None for run in compared.runs]
        lines.append((f"{metric_name(metric)}, test", cells))
    lines.append(("size", [_size(run.report) for run in compared.runs]))
    for target in compared.targets:
        on = [_latency(run.report, target) for run in compared.runs]
        lines.append((f"p50 on {target}, ms", [p50_cell(latency) for latency in on]))
        lines.append((f"p90 on {target}, ms", [percentile_cell(latency, "p90_ms") for latency in on]))
        lines.append((f"memory on {target}", [_memory(latency) for latency in on]))
    filled = [(name, cells) for name, cells in lines if any(cell is not None for cell in cells)]
    rows = tuple(Row((Cell(name), *(cell or Cell(ABSENT) for cell in cells))) for name, cells in filled)
    return Table(("", *(run.name for run in compared.runs)), rows)


def _file(report: Report) -> Cell | None:
    if report.told is None:
        return None
    return Cell(report.told.name, "deploy" if report.deployed is not None else "nearest; misses the budget")


def _metric(report: Report) -> Cell | None:
    return None if report.told is None else metric_cell(report, report.told)


def _size(report: Report) -> Cell | None:
    return None if report.told is None else size_cell(report, report.told)


def _latency(report: Report, target: str) -> Latency | None:
    return None if report.told is None else report.told.on(target)


def _memory(latency: Latency | None) -> Cell | None:
    return None if latency is None or latency.peak_memory_bytes is None else Cell(size(latency.peak_memory_bytes))


def html_comparison(compared: RunsCompared) -> str:
    """One file that needs no network, in the clothes of a report."""
    names = [run.name for run in compared.runs]
    return templates().get_template(TEMPLATE).render(
        names=names,
        verdicts=compared.verdicts(),
        results=results_table(compared),
        settings=settings_table(compared),
        emulated=[
            f"{run.name}: {target}" for run in compared.runs for target in compared.targets
            if run.report.is_emulated(target)
        ],
    )  # fmt: skip


def terminal_tables(compared: RunsCompared) -> list[RichTable]:
    """The two tables for the terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    found = []
    for title, table in (("results", results_table(compared)), ("settings that differ", settings_table(compared))):
        if not table.rows:
            continue
        drawn = RichTable(title=title, title_justify="left", box=None, pad_edge=False)
        for at, heading in enumerate(table.headings):
            drawn.add_column(Text(heading), justify="left" if at == 0 or table.words else "right", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(f"{cell.text}\n{cell.note}" if cell.note else cell.text) for cell in row.cells))
        found.append(drawn)
    return found
