"""What the report says of int8: what was tried rung by rung, and where the time of the files goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compress.report.cells import Cell
from compress.report.int8_rows import Operators, Quantized
from compress.report.int8_words import loss_heading, loss_value, loss_words
from compress.report.rows import Model, Report
from compress.report.table import Row, Table
from compress.report.words import (
    ABSENT,
    listed,
    metric_name,
    metric_value,
    percent,
    ratio,
    rounded,
    seconds,
    size,
)

FAMILIES = {
    "ConvInteger": "Conv",
    "DynamicQuantizeMatMul": "MatMul",
    "GatherBlockQuantized": "Gather",
    "MatMulInteger": "MatMul",
    "MatMulIntegerToFloat": "MatMul",
    "MatMulNBits": "MatMul",
    "QAttention": "Attention",
    "QGemm": "Gemm",
}
"""Operators in int8 -> what they are in float, where the name alone does not tell."""
SHOWN, SMALLEST_SHARE, NAMED = 12, 0.01, 4
"""Lines of kinds of operators, the least share of the time that has one, and how many of the others are named."""


@dataclass(frozen=True)
class RungSection:
    """One network that was quantized: its title, what is said, and a line for each rung (none: no ladder)."""

    title: str
    sentences: tuple[str, ...]
    table: Table


@dataclass(frozen=True)
class TimeSection:
    """Whether int8 pays, why, and the time of each kind of operator in the float and in the int8 file."""

    said: str
    reasons: tuple[str, ...]
    caption: str
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


def time_section(report: Report) -> TimeSection | None:
    """The float file beside the int8 file that it is about; None if int8 was not weighed."""
    if report.int8 is None:
        return None
    floating, int8 = report.row(report.int8.over), report.row(report.int8.file)
    table = Table((), ())
    caption = ""
    if floating is not None and int8 is not None and floating.operators and int8.operators:
        table = operator_table(floating, int8)
        latency = int8.on(report.target)
        batch = f" at batch {latency.batch}" if latency else ""
        caption = (
            f"Microseconds of one call{batch} by kind of operator, as the runtime itself counts them on "
            f"{report.target}; small: how many there are, and their share of the file's time. Counting takes time "
            f"itself, so that the sum is more than the file's latency. Float: {_sized(floating)}; int8: {_sized(int8)}."
        )
    return TimeSection(_sentence(report.int8.said), report.int8.reasons, caption, table)


def _sized(model: Model) -> str:
    return model.name if model.size_bytes is None else f"{model.name}, a file of {size(model.size_bytes)}"


def operator_table(floating: Model, int8: Model) -> Table:
    """A line for each kind of operator, in int8 beside what it is in float; the dearest first, then all together."""
    before, after = _by_family(floating.operators), _by_family(int8.operators)
    whole_before, whole_after = _total(floating.operators), _total(int8.operators)

    def dearest(family: str) -> float:
        return max(_total(before.get(family, ())), _total(after.get(family, ())))

    order = sorted({**before, **after}, key=dearest, reverse=True)
    large = [one for one in order if dearest(one) >= SMALLEST_SHARE * max(whole_before, whole_after)][:SHOWN]
    rows = []
    for family in large:
        ours, theirs = after.get(family, ()), before.get(family, ())
        kinds = dict.fromkeys(kind.operator for kind in (*theirs, *ours))
        named = Cell(family, "" if list(kinds) == [family] else ", ".join(kinds))
        rows.append(_row(named, theirs, ours, whole_before, whole_after))
    if small := [one for one in order if one not in large]:
        theirs, ours = ([kind for one in small for kind in side.get(one, ())] for side in (before, after))
        rows.append(_row(Cell("others", _few(small)), theirs, ours, whole_before, whole_after))
    rows.append(_row(Cell("all"), floating.operators, int8.operators, whole_before, whole_after))
    return Table(("Operator", "float, µs", "int8, µs", "speedup"), tuple(rows))


def _few(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return listed([*names[:NAMED], *more])


def _row(named: Cell, theirs: Sequence[Operators], ours: Sequence[Operators], before: float, after: float) -> Row:
    times = _total(theirs), _total(ours)
    faster = ratio(times[0] / times[1]) if min(times) > 0 else ABSENT
    return Row((named, _spent(theirs, before), _spent(ours, after), Cell(faster)))


def _spent(kinds: Sequence[Operators], whole: float) -> Cell:
    if not kinds:
        return Cell(ABSENT)
    spent, many = _total(kinds), sum(kind.count for kind in kinds)
    return Cell(rounded(spent), f"{many} · {percent(spent / whole, 0)}")


def _total(kinds: Sequence[Operators]) -> float:
    return sum(kind.microseconds for kind in kinds)


def _by_family(kinds: Sequence[Operators]) -> dict[str, list[Operators]]:
    found: dict[str, list[Operators]] = {}
    for kind in kinds:
        found.setdefault(family(kind.operator), []).append(kind)
    return found


def family(operator: str) -> str:
    """What an operator of the runtime's own is a form of: QLinearConv and FusedConv are Conv."""
    return FAMILIES.get(operator) or re.sub(r"^(QLinear|Fused|Nhwc)+(?=[A-Z])", "", operator)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
