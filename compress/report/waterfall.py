"""Accuracy and latency stage by stage, from the reference to the file to deploy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.report.axes import linear_ticks, log_ticks
from compress.report.rows import Interval, Model, Report, ends
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, WIDTH, drawing, inline_svg, new_figure
from compress.report.words import is_share, metric_change, metric_name, metric_value, milliseconds, ratio, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, TOP, BOTTOM, SIDE = 40.0, 6.0, 38.0, 6.0  # units
LONGEST = 33  # letters of a label that leave room for the numbers beside it


@dataclass(frozen=True)
class Stop:
    """A model on the way: where it stands, what it says, and how it changed (`better` None: no change to colour)."""

    label: str
    value: float | None
    ci95: Interval | None = None
    text: str = "not measured"
    change: str = ""
    better: bool | None = None


def accuracy_by_stage(report: Report) -> tuple[str, str] | None:
    """The picture and its caption, or None if fewer than two models on the way were judged on the same data."""
    chain = report.lineage()
    judged = {split: [_judged(report, model, split) for model in chain] for split in ("test", "validation")}
    split = max(judged, key=lambda name: sum(value is not None for value, _ in judged[name]))
    values = judged[split]
    if sum(value is not None for value, _ in values) < 2:
        return None
    stops = _stops(chain, values, lambda value: metric_value(report.metric, value), _metric_change(report))
    scale = 100 if is_share(report.metric) else 1
    named = report.judged_name if split == "test" else f"{split} {metric_name(report.metric)}"
    axis = named + (", %" if scale == 100 else "")
    data = f"{split} data" if report.split == "test" else "the given samples"
    caption = (
        f"{_sentence(metric_name(report.metric))} on {data} after each stage."
        f"{' Whiskers are 95 % intervals.' if any(stop.ci95 for stop in stops) else ''}"
        " The axis does not begin at zero."
    )
    with drawing():
        return inline_svg(_draw(stops, axis, scale, log=False), "accuracy-by-stage", caption, haloed=True), caption


def latency_by_stage(report: Report) -> tuple[str, str] | None:
    """The picture and its caption, or None if fewer than two models on the way were measured."""
    chain = report.lineage()
    measured = [
        (latency.p50_ms, latency.p50_ci95_ms) if (latency := m.on(report.target)) else (None, None) for m in chain
    ]
    if sum(value is not None for value, _ in measured) < 2:
        return None
    stops = _stops(chain, measured, milliseconds, _latency_change)
    on_the_way = any(not model.is_file and model.on(report.target) for model in chain)
    caption = (
        f"Median latency (p50) on {report.target} after each stage. The axis is logarithmic: "
        "equal lengths are equal factors."
        f"{' Models on the way are measured as float ONNX files.' if on_the_way else ''}"
    )
    with drawing():
        return inline_svg(_draw(stops, "p50, ms", 1, log=True), "latency-by-stage", caption, haloed=True), caption


def _judged(report: Report, model: Model, split: str) -> tuple[float | None, Interval | None]:
    metrics = model.metrics if split == "test" else model.validation
    return metrics.get(report.metric), ends(metrics.get(f"{report.metric}_ci95"))


def _stops(
    chain: Sequence[Model],
    values: Sequence[tuple[float | None, Interval | None]],
    write: Callable[[float], str],
    changed: Callable[[float, float], tuple[str, bool | None]],
) -> list[Stop]:
    stops: list[Stop] = []
    short = told_apart([model.name for model in chain], LONGEST)
    before: float | None = None
    for model, (value, ci95) in zip(chain, values, strict=True):
        staged = f"{model.name} · {model.stage}"
        label = staged if model.stage not in model.name and len(staged) <= LONGEST else short[model.name]
        if value is None:
            stops.append(Stop(label, None))
            continue
        change, better = ("", None) if before is None else changed(before, value)
        stops.append(Stop(label, value, ci95, write(value), change, better))
        before = value
    return stops


def _metric_change(report: Report) -> Callable[[float, float], tuple[str, bool | None]]:
    def changed(before: float, after: float) -> tuple[str, bool | None]:
        if after == before:
            return "same", None
        sign = "+" if after > before else "−"
        return sign + metric_change(report.metric, after - before).removesuffix(" points"), (
            (after > before) == report.higher_is_better
        )

    return changed


def _latency_change(before: float, after: float) -> tuple[str, bool | None]:
    times = max(before, after) / min(before, after)
    if times < 1.005:
        return "same", None
    return (f"{ratio(times)} faster", True) if after < before else (f"{ratio(times)} slower", False)


def _draw(stops: Sequence[Stop], axis_label: str, scale: float, log: bool) -> Figure:
    """One line a stop: words above, and below them a bar from the value before to this one. 1 unit of y is 1 of SVG."""
    height = ROW * len(stops)
    figure = new_figure(TOP + height + BOTTOM)
    total = TOP + height + BOTTOM
    axes = figure.add_axes((SIDE / WIDTH, BOTTOM / total, 1 - 2 * SIDE / WIDTH, height / total))
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    placed = [value * scale for stop in stops for value in (stop.value, *(stop.ci95 or ())) if value is not None]
    low, high = min(placed), max(placed)
    if log:
        axes.set_xscale("log")
        margin = (high / low) ** 0.06 if high > low else 1.2
        axes.set_xlim(low / margin, high * margin)
        log_ticks(axes.xaxis, low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or abs(high) * 0.01 or 1.0
        axes.set_xlim(low - margin, high + margin)
        linear_ticks(axes.xaxis, low - margin, high + margin)
    axes.grid(axis="x")
    axes.set_xlabel(axis_label, labelpad=4, loc="right")
    before: tuple[float, float] | None = None
    for at, stop in enumerate(stops):
        before = _draw_stop(axes, stop, at * ROW, scale, before)
    return figure


def _draw_stop(
    axes: Axes, stop: Stop, top: float, scale: float, before: tuple[float, float] | None
) -> tuple[float, float] | None:
    place = axes.get_yaxis_transform()
    colour = MUTED if stop.better is None else GOOD if stop.better else BAD
    axes.text(0, top + 10, stop.label, transform=place, va="center", color=INK)
    axes.text(1, top + 10, stop.change, transform=place, va="center", ha="right", color=colour)
    at = 1 if not stop.change else 1 - 74 / (WIDTH - 2 * SIDE)
    weight = "normal" if stop.value is None else "bold"
    tint = MUTED if stop.value is None else INK
    axes.text(at, top + 10, stop.text, transform=place, va="center", ha="right", color=tint, weight=weight)
    if stop.value is None:
        return before
    value, line = stop.value * scale, top + 26
    if before is not None:
        axes.plot([before[0], before[0]], [before[1], line], color=LINE, linewidth=0.8, zorder=1.5)
        axes.plot([before[0], value], [line, line], color=colour, linewidth=7, zorder=2)
    if stop.ci95 is not None:
        axes.plot([end * scale for end in stop.ci95], [line, line], color=INK, linewidth=1, zorder=3)
    axes.plot([value], [line], "o", color=INK, markersize=6, zorder=4)
    return value, line


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
