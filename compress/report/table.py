"""The tables of a report, once for every place that prints them: Markdown, the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.report.comparison import compare
from compress.report.int8_rows import Quantized
from compress.report.int8_words import rung_lines
from compress.report.reading import read_rows
from compress.report.rows import Latency, Model, Report, ends
from compress.report.words import (
    ABSENT,
    count,
    interval,
    is_share,
    metric_name,
    metric_value,
    percent,
    rate,
    ratio,
    rounded,
    seconds,
    size,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Cell:
    """What a cell says, and in small letters what belongs to it: an interval, a ratio."""

    text: str
    note: str = ""


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


Column = tuple[str, Callable[[Model], Cell | None]]


def files_table(report: Report, target: str | None = None) -> Table:
    """Every file that could be deployed, with its accuracy, latency on `target` (the main one by default) and size."""
    on = target or report.target
    columns: list[Column] = [
        ("File", _named),
        (metric_name(report.metric), lambda model: _metric(report, model)),
        ("agreement", lambda model: _agreement(report, model)),
        ("p50 ms", lambda model: _p50(model.on(on))),
        ("p90 ms", lambda model: _time(model.on(on), "p90_ms")),
        ("p99 ms", lambda model: _time(model.on(on), "p99_ms")),
        ("speedup", lambda model: _speedup(report, model, on)),
        ("size", lambda model: _size(report, model)),
        ("examples/s", lambda model: _throughput(model.in_bulk_on(on))),
        ("memory", lambda model: _cell(getattr(model.on(on), "peak_memory_bytes", None), size)),
        ("load ms", lambda model: _time(model.on(on), "load_ms")),
        ("in int8", lambda model: _cell(model.int8_share, lambda share: percent(share, 0))),
    ]
    return _table(report, report.files, columns)


def target_table(report: Report, target: str) -> Table:
    """The files on one more target: times only, because the size is the same everywhere."""
    table = files_table(report, target)
    kept = [at for at, heading in enumerate(table.headings) if heading not in ("size", "in int8", "agreement")]
    kept = [at for at in kept if table.headings[at] != metric_name(report.metric)]
    measured = [row for row, model in zip(table.rows, report.files, strict=True) if model.on(target) is not None]
    rows = tuple(Row(tuple(row.cells[at] for at in kept), row.mark) for row in measured)
    return Table(tuple(table.headings[at] for at in kept), rows)


def models_table(report: Report) -> Table:
    """The PyTorch models on the way: what each stage left, judged on validation data."""
    columns: list[Column] = [
        ("Model", lambda model: Cell(model.name)),
        ("stage", lambda model: Cell(model.stage)),
        ("made from", lambda model: _cell(model.parent, str)),
        ("parameters", lambda model: _cell(model.parameters, count)),
        ("MACs", lambda model: _cell(model.macs, count)),
        ("weights", lambda model: _cell(model.size_bytes, size)),
        (f"validation {metric_name(report.metric)}", lambda model: _validation(report, model)),
        (f"test {metric_name(report.metric)}", lambda model: _metric(report, model)),
        ("p50 ms", lambda model: _p50(model.on(report.target))),
    ]
    models = tuple(model for model in report.models if not model.is_file)
    return _table(report, models, columns, frozenset({"stage", "made from"}))


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
    report: Report, models: tuple[Model, ...], columns: list[Column], words: frozenset[str] = frozenset()
) -> Table:
    """Columns that no row fills are left out."""
    filled = [(heading, [cell(model) for model in models]) for heading, cell in columns]
    filled = [(heading, cells) for heading, cells in filled if any(cell is not None for cell in cells)]
    rows = []
    for at, model in enumerate(models):
        mark = "deploy" if model is report.deployed else "reference" if model is report.reference_file else ""
        rows.append(Row(tuple(cells[at] or Cell(ABSENT) for _, cells in filled), mark))
    return Table(tuple(heading for heading, _ in filled), tuple(rows), words)


def _cell(value: Any, write: Callable[[Any], str]) -> Cell | None:
    return None if value is None else Cell(write(value))


def _named(model: Model) -> Cell:
    note = [part for part in (model.precision, model.profile) if part and part not in model.name]
    return Cell(model.name, ", ".join(note))


def _metric(report: Report, model: Model) -> Cell | None:
    value, name = model.metrics.get(report.metric), report.metric
    if value is None:
        return None
    ci95 = ends(model.metrics.get(f"{name}_ci95"))
    return Cell(metric_value(name, value), interval(ci95, lambda end: _bare(name, end)) if ci95 else "")


def _agreement(report: Report, model: Model) -> Cell | None:
    """With the reference's answers, unless that is what all is judged by."""
    return None if report.metric == "agreement" else _cell(model.metrics.get("agreement"), percent)


def _validation(report: Report, model: Model) -> Cell | None:
    return _cell(model.validation.get(report.metric), lambda value: metric_value(report.metric, value))


def _bare(metric: str, value: float) -> str:
    return metric_value(metric, value).removesuffix(" %") if is_share(metric) else metric_value(metric, value)


def _p50(latency: Latency | None) -> Cell | None:
    if latency is None:
        return None
    ci95 = latency.p50_ci95_ms
    return Cell(rounded(latency.p50_ms), interval(ci95, rounded) if ci95 else "")


def _time(latency: Latency | None, field: str) -> Cell | None:
    return _cell(getattr(latency, field, None), rounded)


def _speedup(report: Report, model: Model, target: str | None) -> Cell | None:
    compared = compare(report, model, target)
    if compared is None or compared.speedup is None:
        return None
    ci95 = compared.speedup_ci95
    return Cell(ratio(compared.speedup), interval(ci95, ratio) if ci95 else "")


def _size(report: Report, model: Model) -> Cell | None:
    if model.size_bytes is None:
        return None
    compared = compare(report, model)
    smaller = compared.size_ratio if compared is not None else None
    return Cell(size(model.size_bytes), f"{ratio(smaller)} smaller" if smaller and smaller > 1 else "")


def _throughput(latency: Latency | None) -> Cell | None:
    return None if latency is None or latency.throughput_per_s is None else Cell(rate(latency.throughput_per_s))


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
