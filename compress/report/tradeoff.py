"""Accuracy against latency: every file with its intervals, the budget, and the file to deploy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.report.axes import linear_ticks, log_ticks
from compress.report.labels import Label, place_labels
from compress.report.rows import Latency, Model, Report, ends
from compress.report.svg import ACCENT, INK, LINE, MUTED, SOFT, WIDTH, drawing, inline_svg, new_figure
from compress.report.words import is_share, shortened, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 310.0, 40.0, 10.0, 36.0, 40.0  # units
MARKERS = {"fp32": "o", "int8": "s", "int4": "p", "fp16": "^", "bf16": "v"}
OTHER_MARKER = "D"
Point = tuple[Model, Latency, float]


def accuracy_against_latency(report: Report, target: str) -> tuple[str, str] | None:
    """The picture and its caption, or None if no file has both an accuracy and a latency on `target`."""
    points: list[Point] = [
        (model, latency, model.judged_on(target).get(report.metric, model.metrics[report.metric]))
        for model in report.files
        if (latency := model.on(target)) is not None and model.metrics.get(report.metric) is not None
    ]
    if not points:
        return None
    scale = 100 if is_share(report.metric) else 1
    with drawing():
        figure = new_figure(HEIGHT)
        rect = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT)
        axes = figure.add_axes(rect)
        slowest, worst = _budget(report, target)
        _set_limits(axes, points, report.metric, scale, (slowest, worst))
        has_budget = _draw_budget(axes, report, scale, slowest, worst)
        for model, latency, value in points:
            _draw_point(axes, report, model, latency, value * scale)
        _draw_legend(axes, points)
        axes.grid()
        unit = ", %" if scale == 100 else ""
        axes.text(0, 1.03, f"{report.judged_name}{unit}", transform=axes.transAxes, color=MUTED, va="bottom")
        axes.set_xlabel(f"p50 on {shortened(target, 30)}, ms", labelpad=4, loc="right")
        labelled = _labelled(report, points)
        labelled.sort(
            key=lambda point: point[0] is not report.deployed_on(target)
        )  # the most important name chooses first
        place_labels(
            axes, [_label(report, p, scale) for p in labelled], [_label(report, p, scale) for p in points], slowest
        )
        caption = _caption(report, points, labelled, has_budget)
        return inline_svg(figure, f"tradeoff-{report.targets.index(target)}", caption, haloed=True), caption


def _caption(report: Report, points: Sequence[Point], labelled: Sequence[Point], has_budget: bool) -> str:
    better = "up" if report.higher_is_better else "down"
    parts = [f"Each file by its {report.judged_name} and median latency; better is {better} and to the left."]
    if any(ends(model.metrics.get(f"{report.metric}_ci95")) or latency.p50_ci95_ms for model, latency, _ in points):
        parts.append("Whiskers are 95 % intervals; where none is seen it is smaller than the mark.")
    if has_budget:
        parts.append("The shaded part meets the budget.")
    if len(labelled) < len(points):
        parts.append("Named are the reference, the file to deploy and those that no other file beats in both.")
    if any(model is report.deployed_on(latency.target) for model, latency, _ in points):
        parts.append("The ring marks the file to deploy.")
    return " ".join(parts)


def _budget(report: Report, target: str) -> tuple[float | None, float | None]:
    """The slowest p50 (ms) and the worst metric that the budget allows on `target`."""
    reference = report.reference_file
    latency = reference.on(target) if reference is not None else None
    value = reference.metrics.get(report.metric) if reference is not None else None
    slowest: list[float] = []
    worst: float | None = None
    for row in report.budget:
        if row.target not in (None, target):
            continue
        if row.name == "latency_p50_ms":
            slowest.append(row.limit)
        if row.name == "speedup" and latency is not None:
            slowest.append(latency.p50_ms / row.limit)
        if row.name in ("accuracy_drop", "metric_drop") and value is not None:
            lost = row.limit * (abs(value) if row.name == "metric_drop" else 1)
            worst = value - lost if report.higher_is_better else value + lost
    return min(slowest, default=None), worst


def _set_limits(
    axes: Axes, points: Sequence[Point], metric: str, scale: float, budget: tuple[float | None, float | None]
) -> None:
    slowest, worst = budget
    times = [t for _, latency, _ in points for t in (latency.p50_ms, *(latency.p50_ci95_ms or ()))]
    times += [slowest] if slowest else []
    values = [v for model, _, value in points for v in (value, *(ends(model.metrics.get(f"{metric}_ci95")) or ()))]
    values += [worst] if worst is not None else []
    times = [t for t in times if t > 0]  # an interval of few rounds may reach down to nothing
    low, high = min(times), max(times)
    margin = max((high / low) ** 0.12, 1.15)
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    log_ticks(axes.xaxis, low / margin, high * margin)
    bottom, top = min(values) * scale, max(values) * scale
    pad = 0.1 * (top - bottom) or abs(top) * 0.02 or 1.0
    axes.set_ylim(bottom - pad, top + pad)
    linear_ticks(axes.yaxis, bottom - pad, top + pad)


def _draw_budget(axes: Axes, report: Report, scale: float, slowest: float | None, worst: float | None) -> bool:
    if slowest is None and worst is None:
        return False
    from matplotlib.patches import Rectangle

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = slowest or right, worst * scale if worst is not None else bottom if report.higher_is_better else top
    far = top if report.higher_is_better else bottom
    axes.add_patch(Rectangle((left, y), x - left, far - y, facecolor=SOFT, edgecolor="none", zorder=0))
    if slowest is not None:
        axes.axvline(x, color=ACCENT, linewidth=1, dashes=(4, 3), zorder=1)
    if worst is not None:
        axes.axhline(y, color=ACCENT, linewidth=1, dashes=(4, 3), zorder=1)
    return True


def _draw_point(axes: Axes, report: Report, model: Model, latency: Latency, value: float) -> None:
    chosen = model is report.deployed_on(latency.target)
    colour = ACCENT if chosen else INK if model is report.reference_file else MUTED
    faint = ACCENT if chosen else LINE
    scale = 100 if is_share(report.metric) else 1
    if ci95 := ends(model.metrics.get(f"{report.metric}_ci95")):
        axes.plot([latency.p50_ms] * 2, [end * scale for end in ci95], color=faint, linewidth=1.2, zorder=2)
    if latency.p50_ci95_ms:
        axes.plot(latency.p50_ci95_ms, [value, value], color=faint, linewidth=1.2, zorder=2)
    marker = MARKERS.get(model.precision or "fp32", OTHER_MARKER)
    axes.plot(
        [latency.p50_ms], [value], marker, color=colour, markersize=7 if chosen else 6, markeredgewidth=0, zorder=3
    )
    if chosen:
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": ACCENT, "markeredgewidth": 1.4}
        axes.plot([latency.p50_ms], [value], "o", markersize=15, zorder=3, **ring)


def _draw_legend(axes: Axes, points: Sequence[Point]) -> None:
    from matplotlib.lines import Line2D

    precisions = list(dict.fromkeys(model.precision or "fp32" for model, _, _ in points))
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS.get(name, OTHER_MARKER), color=MUTED, markeredgewidth=0, label=name)
        for name in precisions
    ]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 0.995),
        ncols=len(handles),
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
        borderaxespad=0.2,
        labelcolor=MUTED,
    )


def _labelled(report: Report, points: Sequence[Point]) -> list[Point]:
    """All of a few; of many, those that matter."""
    if len(points) <= 6:
        return list(points)
    sign = 1 if report.higher_is_better else -1
    kept = []
    for model, latency, value in points:
        beaten = any(
            other.p50_ms <= latency.p50_ms
            and sign * score >= sign * value
            and (other.p50_ms, score) != (latency.p50_ms, value)
            for _, other, score in points
        )
        if not beaten or model in (report.deployed_on(latency.target), report.reference_file):
            kept.append((model, latency, value))
    return kept


def _label(report: Report, point: Point, scale: float) -> Label:
    model, latency, value = point
    names = told_apart([row.name for row in report.files], 28)
    chosen = model is report.deployed_on(latency.target)
    ci95 = ends(model.metrics.get(f"{report.metric}_ci95"))
    whisker = None if ci95 is None else (ci95[0] * scale, ci95[1] * scale)
    text, reach, colour = names[model.name], 8.0 if chosen else 4.0, ACCENT if chosen else INK
    return Label(text, latency.p50_ms, value * scale, reach, colour, chosen, whisker)
