"""What a report says first, in words: what to deploy, how much faster and smaller it is, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from compress.report.cells import Cell
from compress.report.comparison import Comparison, compare
from compress.report.rows import Latency, Model, Report, Requirement
from compress.report.table import Row, Table
from compress.report.words import (
    ABSENT,
    interval,
    is_share,
    listed,
    metric_change,
    metric_name,
    metric_value,
    milliseconds,
    percent,
    points,
    ratio,
    rounded,
    signed_loss,
    size,
)

NO_REFERENCE = "No reference was measured."


@dataclass(frozen=True)
class Number:
    """One of the large numbers at the top."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """`status` is `met`, `missed` or `open` (no budget was set)."""

    status: str
    badge: str
    headline: str
    sentences: tuple[str, ...]
    numbers: tuple[Number, ...]


def verdict(report: Report) -> Verdict:
    """What to do, from the rows alone."""
    chosen = report.deployed
    told = report.told
    reason = _sentence(report.deploy_reason, report) if report.deploy_reason else ""
    if chosen is not None:
        headline = f"Deploy {chosen.name}"
        sentences = [_comparison_sentence(report, chosen, "it"), reason]
    else:
        headline = "No file meets the budget" if report.budget else "Nothing to deploy"
        sentences = [reason, _comparison_sentence(report, told, told.name) if told else ""]
    sentences += _int8_sentences(report)
    if missed := [row for row in report.budget if not row.met]:
        sentences.append(f"Missed: {'; '.join(requirement_words(row, report.metric) for row in missed)}.")
    if not report.budget:
        status, badge = "open", "No budget was set"
    else:
        status, badge = ("met", "Budget met") if report.met else ("missed", "Budget missed")
    numbers = _numbers(report, told) if told is not None else ()
    return Verdict(status, badge, headline, tuple(text for text in sentences if text), numbers)


def _int8_sentences(report: Report) -> list[str]:
    """Whether int8 pays, unless that is the reason for what is deployed already; and why where it does not."""
    if report.int8 is None:
        return []
    said = [] if report.int8.said == report.deploy_reason else [_sentence(report.int8.said, report)]
    if report.int8.pays:
        return []
    why = [_sentence(f"why: {'; '.join(report.int8.reasons)}", report)] if report.int8.reasons else []
    return said + why


def _sentence(text: str, report: Report) -> str:
    """A text as a sentence; a file's name keeps its letters."""
    text = f"It is {text}" if text.startswith("the ") else text.strip()
    named = any(text.startswith(model.name) for model in report.models)
    text = text if named else text[:1].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?")) else ".")


def _comparison_sentence(report: Report, model: Model, subject: str) -> str:
    compared, reference = compare(report, model), report.reference_file
    if compared is None or reference is None:
        itself = model is reference
        return f"{'It' if subject == 'it' else subject} is the reference itself." if itself else NO_REFERENCE
    parts = []
    if compared.speedup is not None:
        word, times = _factor(compared.speedup, "faster", "slower")
        parts.append(f"{ratio(times)} {word} on {report.target}")
    if compared.size_ratio is not None:
        word, times = _factor(compared.size_ratio, "smaller", "larger")
        parts.append(f"{ratio(times)} {word}")
    loss = _loss_words(report, compared)
    if not parts and not loss:
        return ""
    be = f" is {listed(parts)}" + (", and" if loss else "") if parts else ""
    return f"Against {reference.name}, {subject}{be}{' ' if loss else ''}{loss}."


def _factor(times: float, better: str, worse: str) -> tuple[str, float]:
    """A factor of 1 or more, and the word for its direction."""
    return (better, times) if times >= 1 else (worse, 1 / times)


def _loss_words(report: Report, compared: Comparison) -> str:
    if compared.loss is None:
        return ""
    loss = compared.loss
    verb = ("loses" if loss > 0 else "gains") if report.higher_is_better else ("raises" if loss > 0 else "lowers")
    change = metric_change(report.metric, loss)
    name = report.judged_name
    if loss == 0:
        words = f"has the same {name}"
    elif report.higher_is_better:
        words = f"{verb} {change} of {name}"
    else:
        words = f"{verb} the {name} by {change}"
    if compared.loss_ci95 is None:
        return words
    ends = interval(compared.loss_ci95, lambda end: signed_loss(report.metric, end))
    if loss == 0:
        return f"{words} (95 % interval of the difference: {ends})"
    what = ("loss" if report.higher_is_better else "rise") + (": " if loss > 0 else ", negative being better: ")
    unsure = "; it may be chance" if compared.loss_ci95[0] <= 0 <= compared.loss_ci95[1] else ""
    return f"{words} (95 % interval of the {what}{ends}{unsure})"


def _numbers(report: Report, model: Model) -> tuple[Number, ...]:
    compared, reference = compare(report, model), report.reference_file
    numbers = [_latency_number(report, model, compared), _size_number(model, reference, compared)]
    value, name = model.metrics.get(report.metric), report.metric
    if value is not None:
        before = reference.metrics.get(name) if reference is not None else None
        was = f"reference {metric_value(name, before)}" if compared is not None and before is not None else ""
        numbers.append(Number(report.judged_name, metric_value(name, value), was))
    return tuple(number for number in numbers if number is not None)


def _latency_number(report: Report, model: Model, compared: Comparison | None) -> Number | None:
    after: Latency | None = model.on(report.target)
    if after is None:
        return None
    what = f"p50, batch {after.batch}" + (f", {_threads(after.threads)}" if after.threads else "")
    if compared is None or compared.speedup is None:
        return Number("latency", milliseconds(after.p50_ms), what)
    before = rounded(after.p50_ms * compared.speedup)
    word, times = _factor(compared.speedup, "faster", "slower")
    return Number(word, ratio(times), f"{before} to {milliseconds(after.p50_ms)} ({what})")


def _threads(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _size_number(model: Model, reference: Model | None, compared: Comparison | None) -> Number | None:
    if model.size_bytes is None:
        return None
    if compared is None or compared.size_ratio is None or reference is None or reference.size_bytes is None:
        return Number("size", size(model.size_bytes), "")
    word, times = _factor(compared.size_ratio, "smaller", "larger")
    return Number(word, ratio(times), f"{size(reference.size_bytes)} to {size(model.size_bytes)}")


AT_LEAST = frozenset({"speedup", "size_ratio"})
LOSSES = {"agreement": "share of answers that change", "relative_error": "relative squared error"}
"""What a `loss` is called by the primary metric; of any other it is that which is lost."""
REQUIREMENTS = {
    "accuracy_drop": "accuracy lost",
    "metric_drop": "metric lost, relative",
    "latency_p50_ms": "latency, p50",
    "latency_p90_ms": "latency, p90",
    "latency_p99_ms": "latency, p99",
    "speedup": "speedup",
    "size_ratio": "size ratio",
    "size_bytes": "size",
    "peak_memory_bytes": "peak memory",
}


def requirement_words(row: Requirement, metric: str = "accuracy") -> str:
    """`accuracy lost 1.40 points (at most 1.00 points)`."""
    limit, value = _requirement_numbers(row, metric)
    what = _requirement(row, metric) + (f" on {row.target}" if row.target else "")
    return f"{what} {value if row.value is not None else 'not measured'} ({limit})"


def budget_table(report: Report) -> Table:
    """The budget, one line a requirement, in words."""
    rows = []
    for row in report.budget:
        limit, value = _requirement_numbers(row, report.metric)
        what = Cell(_requirement(row, report.metric), row.target or "")
        rows.append(Row((what, Cell(limit), Cell(value), Cell("met" if row.met else "missed"))))
    return Table(("Requirement", "limit", "measured", "verdict"), tuple(rows), frozenset({"verdict"}))


def _requirement(row: Requirement, metric: str) -> str:
    if row.name == "loss":
        return LOSSES.get(metric, f"{metric_name(metric)} lost")
    return REQUIREMENTS.get(row.name, metric_name(row.name))


def _requirement_numbers(row: Requirement, metric: str) -> tuple[str, str]:
    """Limit and value; a missed limit is written with as many digits as it takes to see that it was missed."""
    bound = "at least" if row.name in AT_LEAST else "at most"
    for more in range(6):
        write = _writer(row.name, more, metric)
        limit, value = write(row.limit), ABSENT if row.value is None else write(row.value)
        if row.met or limit != value:
            break
    return f"{bound} {re.sub(r'[.]0+x$', 'x', limit)}", value


def _plain(value: float, decimals: int) -> str:
    return rounded(value, decimals + 1)


def _writer(name: str, more: int, metric: str) -> Callable[[float], str]:
    if name == "loss" and metric == "agreement":
        return lambda value: percent(value, 2 + more)
    if name in ("accuracy_drop", "loss"):
        drop = points if is_share(metric) else _plain
        return lambda value: drop(value, 2 + more)
    if name.endswith("_drop"):
        return lambda value: percent(value, 2 + more)
    if name.endswith("_ms"):
        return lambda value: f"{rounded(value, 3 + more)} ms"
    if name.endswith("_bytes"):
        return lambda value: size(value, 3 + more)
    return lambda value: ratio(value, more)
