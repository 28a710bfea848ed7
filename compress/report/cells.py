"""What single cells of a report's tables say, once for every table: a number and, in small letters, its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from compress.report.comparison import compare
from compress.report.rows import Interval, Latency, Model, Report, ends
from compress.report.words import interval, is_share, metric_value, percent, rate, ratio, rounded, size

NOT_ESTABLISHED = "not established"
FEW_ROUNDS = "too few rounds"
"""In place of an interval."""
WAYS = {"to_device": "to the GPU", "to_host": "back"}


@dataclass(frozen=True)
class Cell:
    """What a cell says, and in small letters what belongs to it: an interval, a ratio."""

    text: str
    note: str = ""


def metric_cell(report: Report, model: Model, target: str | None = None) -> Cell | None:
    """The primary metric as measured on a target (the main one by default), with its interval."""
    metrics, name = _metrics(report, model, target), report.metric
    value = metrics.get(name)
    if value is None:
        return None
    ci95 = ends(metrics.get(f"{name}_ci95"))
    return Cell(metric_value(name, value), interval(ci95, lambda end: _bare(name, end)) if ci95 else "")


def agreement_cell(report: Report, model: Model, target: str | None = None) -> Cell | None:
    """With the reference's answers, unless that is what all is judged by."""
    metrics = _metrics(report, model, target)
    if report.metric == "agreement" or metrics.get("agreement") is None:
        return None
    ci95 = ends(metrics.get("agreement_ci95"))
    return Cell(percent(metrics["agreement"]), interval(ci95, lambda end: _bare("agreement", end)) if ci95 else "")


def _metrics(report: Report, model: Model, target: str | None) -> Mapping[str, Any]:
    return model.metrics if target in (None, report.target) else model.judged_on(target)


def p50_cell(latency: Latency | None) -> Cell | None:
    """The median in ms, with its interval."""
    if latency is None:
        return None
    ci95 = latency.p50_ci95_ms
    return Cell(rounded(latency.p50_ms), _ends(latency, ci95, rounded))


def percentile_cell(latency: Latency | None, field: str) -> Cell | None:
    """p90 or p99 in ms with what is known of how sure it is; `not established` where there were too few calls."""
    if latency is None:
        return None
    value = getattr(latency, field)
    if value is None:
        return Cell(NOT_ESTABLISHED, latency.why_not[field]) if field in latency.why_not else None
    if latency.mode == "full":
        return Cell(rounded(value), "at most, 99 % sure")
    ci95 = latency.p90_ci95_ms if field == "p90_ms" else None
    return Cell(rounded(value), interval(ci95, rounded) if ci95 else "")


def _ends(latency: Latency | None, ci95: Interval | None, write: Callable[[float], str]) -> str:
    """An interval, or why there is none."""
    few = latency is not None and latency.has_few_rounds
    return interval(ci95, write) if ci95 else FEW_ROUNDS if few else ""


def speedup_cell(report: Report, model: Model, target: str | None) -> Cell | None:
    """How many times faster than the reference's file on a target, with its interval."""
    compared = compare(report, model, target)
    if compared is None or compared.speedup is None:
        return None
    ci95 = compared.speedup_ci95
    return Cell(ratio(compared.speedup), _ends(model.on(target), ci95, ratio))


def size_cell(report: Report, model: Model) -> Cell | None:
    """The size of a file, and how many times smaller than the reference's it is."""
    if model.size_bytes is None:
        return None
    compared = compare(report, model)
    smaller = compared.size_ratio if compared is not None else None
    return Cell(size(model.size_bytes), f"{ratio(smaller)} smaller" if smaller and smaller > 1 else "")


def throughput_cell(latency: Latency | None) -> Cell | None:
    """Examples a second, and the batch size at which there are so many."""
    if latency is None or latency.throughput_per_s is None:
        return None
    best = latency.best_offline
    return Cell(rate(latency.throughput_per_s), f"batch {best.batch}" if best else "")


def energy_cell(latency: Latency | None) -> Cell | None:
    """Millijoules of an example at the best batch size, where the machine counts energy: the largest, by its source."""
    if latency is None or not latency.energy_mj:
        return None
    first, *others = sorted(latency.energy_mj.items(), key=lambda pair: -pair[1])
    return Cell(rounded(first[1]), ", ".join([first[0], *(f"{name} {rounded(value)}" for name, value in others)]))


def transfers_cell(latency: Latency | None) -> Cell | None:
    """What the copies to and from a GPU take together, where they are no part of the times."""
    if latency is None or not latency.transfers_ms:
        return None
    ways = [f"{rounded(value)} {WAYS.get(way, way)}" for way, value in latency.transfers_ms.items()]
    return Cell(rounded(sum(latency.transfers_ms.values())), ", ".join(ways))


def memory_cell(latency: Latency | None, field: str) -> Cell | None:
    """A field of bytes."""
    value = None if latency is None else getattr(latency, field)
    return None if value is None else Cell(size(value))


def load_cell(latency: Latency | None) -> Cell | None:
    """Milliseconds until a file is ready to run."""
    return None if latency is None or latency.load_ms is None else Cell(rounded(latency.load_ms))


def _bare(metric: str, value: float) -> str:
    return metric_value(metric, value).removesuffix(" %") if is_share(metric) else metric_value(metric, value)
