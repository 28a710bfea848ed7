"""Accuracy against p90 latency: every file on every target, and of each target those that no other file beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.report.axes import linear_ticks, log_ticks
from compress.report.labels import Label, place_labels
from compress.report.rows import Interval, Model, Report, ends
from compress.report.svg import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    LINE,
    MUTED,
    SURFACE,
    VIOLET,
    WIDTH,
    drawing,
    inline_svg,
    new_figure,
)
from compress.report.words import is_share, shortened, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT, LEFT, RIGHT, TOP, BOTTOM, LEGEND_LINE = 330.0, 40.0, 10.0, 24.0, 40.0, 15.0  # units
STYLES = ((ACCENT, "o"), (BAD, "s"), (GOOD, "^"), (VIOLET, "D"), (MUTED, "v"))
"""Colour and mark of each target in turn: told apart without colours too."""
MOST_LABELS = 12


@dataclass(frozen=True)
class Point:
    """A file on a target: p90 in ms, and the metric of the answers that it gave there."""

    model: Model
    target: str
    p90_ms: float
    value: float
    value_ci95: Interval | None
    emulated: bool


def points_of(report: Report) -> list[Point]:
    """Every file on every target that has both numbers, in the order of the targets."""
    found = []
    for target in report.targets:
        for model in report.files:
            latency, metrics = model.on(target), model.judged_on(target)
            if target == report.target:
                metrics = model.metrics
            value = metrics.get(report.metric)
            if latency is None or latency.p90_ms is None or value is None:
                continue
            ci95 = ends(metrics.get(f"{report.metric}_ci95"))
            found.append(Point(model, target, latency.p90_ms, value, ci95, report.is_emulated(target)))
    return found


def front(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """Those that no other point beats in one number without losing in the other; the fastest first.

    Of points that are equal in both, the first one counts.
    """
    sign = 1 if higher_is_better else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (one.p90_ms, -sign * one.value)):
        if not kept or sign * point.value > sign * kept[-1].value:
            kept.append(point)
    return kept


def pareto(report: Report) -> tuple[str, str] | None:
    """The picture and its caption, or None if fewer than two files have an accuracy and an established p90."""
    points = points_of(report)
    if len(points) < 2:
        return None
    targets = [target for target in report.targets if any(point.target == target for point in points)]
    fronts = {
        target: front([one for one in points if one.target == target and not one.emulated], report.higher_is_better)
        for target in targets
    }
    scale = 100 if is_share(report.metric) else 1
    columns = 2 if len(targets) > 1 else 1
    top = TOP + LEGEND_LINE * -(-len(targets) // columns)
    with drawing():
        figure = new_figure(HEIGHT)
        rect = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (top + BOTTOM) / HEIGHT)
        axes = figure.add_axes(rect)
        _set_limits(axes, points, scale)
        for target in targets:
            _draw_front(axes, fronts[target], scale, _style(targets, target)[0])
        for point in points:
            _draw_point(axes, point, scale, _style(targets, point.target), point.model is _chosen(report, point.target))
        _draw_legend(axes, report, targets, columns)
        axes.grid()
        unit = ", %" if scale == 100 else ""
        axes.text(0, 1.02, f"{report.judged_name}{unit}", transform=axes.transAxes, color=MUTED, va="bottom")
        axes.set_xlabel("p90, ms", labelpad=4, loc="right")
        named = _named(report, points, fronts)
        labels = {id(one): _label(report, one, scale, targets) for one in points}
        place_labels(axes, [labels[id(one)] for one in named], list(labels.values()), None)
        caption = _caption(report, targets, points, named)
        return inline_svg(figure, "pareto", caption, haloed=True), caption


def _style(targets: Sequence[str], target: str) -> tuple[str, str]:
    return STYLES[targets.index(target) % len(STYLES)]


def _chosen(report: Report, target: str) -> Model | None:
    """The file to deploy there, if that was decided for this target."""
    decided = report.place(target) is not None or target == report.target
    return report.deployed_on(target) if decided else None


def _set_limits(axes: Axes, points: Sequence[Point], scale: float) -> None:
    times = [point.p90_ms for point in points]
    low, high = min(times), max(times)
    margin = max((high / low) ** 0.12, 1.15)
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    log_ticks(axes.xaxis, low / margin, high * margin)
    values = [value * scale for point in points for value in (point.value, *(point.value_ci95 or ()))]
    pad = 0.1 * (max(values) - min(values)) or abs(max(values)) * 0.02 or 1.0
    axes.set_ylim(min(values) - pad, max(values) + pad)
    linear_ticks(axes.yaxis, min(values) - pad, max(values) + pad)


def _draw_front(axes: Axes, points: Sequence[Point], scale: float, colour: str) -> None:
    """Steps: between two points nothing better is known than the left one."""
    if len(points) > 1:
        xs, ys = [one.p90_ms for one in points], [one.value * scale for one in points]
        axes.step(xs, ys, where="post", color=colour, linewidth=1.4, zorder=2)


def _draw_point(axes: Axes, point: Point, scale: float, style: tuple[str, str], chosen: bool) -> None:
    colour, marker = style
    y = point.value * scale
    if point.value_ci95 is not None:
        axes.plot([point.p90_ms] * 2, [end * scale for end in point.value_ci95], color=LINE, linewidth=1, zorder=1)
    face: dict[str, Any] = {"markerfacecolor": SURFACE if point.emulated else colour, "markeredgecolor": colour}
    axes.plot([point.p90_ms], [y], marker, markersize=6, markeredgewidth=1.2, zorder=3, **face)
    if chosen:
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.4}
        axes.plot([point.p90_ms], [y], "o", markersize=15, zorder=3, **ring)


def _draw_legend(axes: Axes, report: Report, targets: Sequence[str], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for target in targets:
        colour, marker = _style(targets, target)
        emulated = report.is_emulated(target)
        name = shortened(target, 24 if columns > 1 else 44) + (" (emulated)" if emulated else "")
        face = SURFACE if emulated else colour
        handles.append(
            Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=6, label=name)
        )
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.08),
        ncols=columns,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
        labelspacing=0.25,
        borderaxespad=0.0,
        labelcolor=MUTED,
        fontsize=9.5,
    )


def _named(report: Report, points: Sequence[Point], fronts: dict[str, list[Point]]) -> list[Point]:
    """The points whose names are written: of each target the file to deploy and the reference, then the front."""
    order = {True: 0, False: 1}
    wanted = [
        point
        for point in points
        if point.model in (_chosen(report, point.target), report.reference_file) or point in fronts[point.target]
    ]
    if len(points) <= MOST_LABELS // 2:
        wanted = list(points)
    wanted.sort(key=lambda point: order[point.model is _chosen(report, point.target)])
    return wanted[:MOST_LABELS]


def _label(report: Report, point: Point, scale: float, targets: Sequence[str]) -> Label:
    names = told_apart([row.name for row in report.files], 28)
    chosen = point.model is _chosen(report, point.target)
    ci95 = point.value_ci95
    whisker = None if ci95 is None else (ci95[0] * scale, ci95[1] * scale)
    text, reach = names[point.model.name], 8.0 if chosen else 4.0
    colour = _style(targets, point.target)[0] if len(targets) > 1 else INK
    return Label(text, point.p90_ms, point.value * scale, reach, colour, chosen, whisker)


def _caption(report: Report, targets: Sequence[str], points: Sequence[Point], named: Sequence[Point]) -> str:
    better = "up" if report.higher_is_better else "down"
    where = "every target" if len(targets) > 1 else targets[0]
    parts = [f"Each file on {where} by its {report.judged_name} there and its p90; better is {better} and to the left."]
    parts.append("The steps join the files that no other beats in both on that target (the Pareto front).")
    if any(point.value_ci95 for point in points):
        parts.append("Whiskers are 95 % intervals.")
    if any(point.model is _chosen(report, point.target) for point in points):
        parts.append("A ring marks the file to deploy.")
    if any(point.emulated for point in points):
        parts.append("Hollow marks are times of an emulator: they say nothing of a real machine.")
    if len(named) < len(points):
        parts.append("Not all are named: the tables have every file.")
    return " ".join(parts)
