"""What the report says of int8: what was tried, rung by rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.report.cells import Cell
from compress.report.int8_rows import Quantized
from compress.report.int8_words import loss_heading, loss_value, loss_words
from compress.report.rows import Report
from compress.report.table import Row, Table
from compress.report.words import (
    ABSENT,
    listed,
    metric_name,
    metric_value,
    rounded,
    seconds,
)


@dataclass(frozen=True)
class RungSection:
    """One network that was quantized: its title, what is said, and a line for each rung (none: no ladder)."""

    title: str
    sentences: tuple[str, ...]
    table: Table


def rung_sections(report: Report) -> tuple[RungSection, ...]:
    """One for each network that was quantized; files of one network share it."""
    found: list[tuple[Quantized, list[str]]] = []
    for model in report.models:
        if model.quantized is None:
            continue
        same = next((names for quantized, names in found if quantized == model.quantized), None)
        if same is None:
            found.append((model.quantized, [model.name]))
        else:
            same.append(model.name)
    return tuple(_rung_section(report, quantized, names) for quantized, names in found)


def _rung_section(report: Report, quantized: Quantized, names: Sequence[str]) -> RungSection:
    title = "Int8, rung by rung" if quantized.rungs else "Int8"
    sentence = _climbed(report, quantized) if quantized.rungs else _trained(report, quantized)
    sentences = [sentence, *([f"{_grid(quantized)}."] if quantized.grid else [])]
    if quantized.in_float:
        sentences.append(f"Kept in float: {', '.join(quantized.in_float)}.")
    return RungSection(f"{title}: {listed(names)}", tuple(sentences), rung_table(report, quantized))


def _grid(quantized: Quantized) -> str:
    bits = f", weights of {quantized.weight_bits} bits" if quantized.weight_bits else ""
    zero = "with" if quantized.grid == "affine" else "without"
    return f"Activations are integers {zero} a zero point ({quantized.grid}){bits}"


def _climbed(report: Report, quantized: Quantized) -> str:
    kept = next((rung for rung in quantized.rungs if rung.name == quantized.kept), None)
    many = len(quantized.rungs)
    tried = "One rung was climbed" if many == 1 else f"{many} rungs were climbed, the cheapest first"
    if kept is None:
        return f"{tried}."
    return f"{tried}. Kept: {kept.meaning} ({kept.choice}), {loss_words(report.metric, kept.loss)}."


def _trained(report: Report, quantized: Quantized) -> str:
    name = f"validation {metric_name(report.metric)}"

    def value(metrics: object) -> str:
        found = metrics.get(report.metric) if isinstance(metrics, dict) else None
        return f"{name} {metric_value(report.metric, found)}" if found is not None else f"{name} not known"

    before = value(quantized.post_training)
    if not quantized.trained:
        return f"Calibrated, not trained: {before}."
    kept = (
        "the trained network" if quantized.kept == "trained" else "the calibrated network, which training did not help"
    )
    return f"Calibrated: {before}; then trained as it will run: {value(quantized.trained)}. Kept: {kept}."


def rung_table(report: Report, quantized: Quantized) -> Table:
    """A line a rung; the one that was kept is marked. Columns that no rung fills are left out."""
    metric = report.metric
    judged = any(metric in rung.metrics for rung in quantized.rungs)
    headings = ["Rung", "chosen", *([f"validation {metric_name(metric)}"] if judged else []), loss_heading(metric)]
    headings += ["output error", "took", "layers in float"]
    rows = []
    for rung in quantized.rungs:
        value = rung.metrics.get(metric)
        cells = [Cell(rung.meaning, rung.name), Cell(rung.choice)]
        cells += [Cell(ABSENT if value is None else metric_value(metric, value))] if judged else []
        cells += [
            Cell(loss_value(metric, rung.loss)),
            Cell(ABSENT if rung.error is None else rounded(rung.error)),
            Cell(ABSENT if rung.seconds is None else seconds(rung.seconds)),
            Cell(str(len(rung.in_float))),
        ]
        rows.append(Row(tuple(cells), "kept" if rung.name == quantized.kept else ""))
    return Table(tuple(headings), tuple(rows), frozenset({"chosen"}))
