"""How single calls spread around each file's own median."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from compress.report.axes import linear_ticks
from compress.report.rows import Latency, Model, Report
from compress.report.svg import ACCENT, INK, LINE, MUTED, WIDTH, drawing, inline_svg, new_figure
from compress.report.words import milliseconds, percent, rounded, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, TOP, BOTTOM, SIDE = 44.0, 6.0, 38.0, 6.0  # units
BINS, FARTHEST, MOST = 90, 3.0, 12  # calls slower than FARTHEST times the median are counted in the caption


def latency_distributions(report: Report, target: str) -> tuple[str, str] | None:
    """The picture and its caption, or None if no file was measured on `target` with more than its median."""
    rows = [(model, latency) for model in report.files if (latency := model.on(target)) is not None]
    rows = [(model, latency) for model, latency in rows if latency.rounds_ms or latency.p99_ms is not None]
    if not rows:
        return None
    many = len(rows)
    rows = _chosen(report, rows)
    short = told_apart([model.name for model, _ in rows], 32)
    low, high = _limits([latency for _, latency in rows])
    height = ROW * len(rows)
    total = TOP + height + BOTTOM
    with drawing():
        figure = new_figure(total)
        axes = figure.add_axes((SIDE / WIDTH, BOTTOM / total, 1 - 2 * SIDE / WIDTH, height / total))
        axes.set_xlim(low, high)
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        linear_ticks(axes.xaxis, low, high, 6)
        axes.grid(axis="x")
        axes.set_xlabel("time of a call over the file's own median", labelpad=4, loc="right")
        for at, (model, latency) in enumerate(rows):
            _draw_row(axes, short[model.name], latency, at * ROW, model is report.deployed_on(latency.target))
        caption = _caption([latency for _, latency in rows], high, many)
        return inline_svg(figure, f"distributions-{report.targets.index(target)}", caption, haloed=True), caption


def _caption(measured: Sequence[Latency], high: float, of: int) -> str:
    parts = ["Calls over their file's own median, so that files of any speed can be compared."]
    parts.append("Dot: median; line: to the 90th and 99th percentile.")
    if len(measured) < of:
        parts.append(f"Shown are {len(measured)} of {of} files: the reference's, the one to deploy and the fastest.")
    if any(latency.rounds_ms for latency in measured):
        parts.append("Small dots below: the medians of single rounds.")
    beyond = [sum(call > high * latency.p50_ms for call in _calls(latency)) for latency in measured]
    share = max(
        (many / len(_calls(latency)) for many, latency in zip(beyond, measured, strict=True) if many), default=0
    )
    if share:
        parts.append(f"About {percent(share)} or less of a file's calls lie beyond the right edge.")
    return " ".join(parts)


def _chosen(report: Report, rows: list[tuple[Model, Latency]]) -> list[tuple[Model, Latency]]:
    """At most MOST of them, in their order."""
    always = [row for row in rows if row[0] in (report.deployed_on(row[1].target), report.reference_file)]
    fastest = sorted((row for row in rows if row not in always), key=lambda row: row[1].p50_ms)
    kept = always + fastest[: MOST - len(always)]
    return [row for row in rows if row in kept]


def _calls(latency: Latency) -> list[float]:
    return list(chain.from_iterable(latency.rounds_ms))


def _limits(measured: Sequence[Latency]) -> tuple[float, float]:
    """From the fastest call's place to a little over the largest p99, in medians."""
    lows = [0.95] + [_quantile(_calls(latency), 0.005) / latency.p50_ms for latency in measured if latency.rounds_ms]
    highs = [1.1] + [latency.p99_ms / latency.p50_ms for latency in measured if latency.p99_ms is not None]
    low, high = max(min(lows), 0.0), min(max(highs), FARTHEST)
    return low - 0.03 * (high - low), high + 0.05 * (high - low)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def _draw_row(axes: Axes, name: str, latency: Latency, top: float, chosen: bool) -> None:
    place = axes.get_yaxis_transform()
    colour, line = (ACCENT if chosen else INK), top + 35
    weight = "bold" if chosen else "normal"
    axes.text(0, top + 9, name, transform=place, va="center", color=colour, weight=weight)
    tail = f"p50 {rounded(latency.p50_ms)}" + (f" · p99 {rounded(latency.p99_ms)}" if latency.p99_ms else "")
    words = milliseconds(latency.p50_ms) if latency.p99_ms is None else f"{tail} ms"
    axes.text(1, top + 9, words, transform=place, va="center", ha="right", color=MUTED)
    axes.axhline(line, color=LINE, linewidth=0.8, zorder=1)
    if latency.rounds_ms:
        _draw_shape(axes, latency, line, chosen)
    marks = [value / latency.p50_ms for value in (latency.p90_ms, latency.p99_ms) if value is not None]
    if marks:
        axes.plot([1, max(marks)], [line, line], color=colour, linewidth=1.4, zorder=3)
    for mark in marks:
        axes.plot([mark, mark], [line - 3.5, line + 3.5], color=colour, linewidth=1.4, zorder=3)
    axes.plot([1], [line], "o", color=colour, markersize=5.5, markeredgewidth=0, zorder=4)


def _draw_shape(axes: Axes, latency: Latency, line: float, chosen: bool) -> None:
    """The histogram of all calls, as high as its row allows, and each round's median."""
    low, high = axes.get_xlim()
    counts = [0] * BINS
    for call in _calls(latency):
        at = int((call / latency.p50_ms - low) / (high - low) * BINS)
        if 0 <= at < BINS:
            counts[at] += 1
    tallest = max(counts) or 1
    edges = [low + (high - low) * at / BINS for at in range(BINS + 1)]
    heights = [line - 17 * many / tallest for many in counts]
    colour, alpha = (ACCENT, 0.4) if chosen else (LINE, 1.0)
    heights.append(heights[-1])
    axes.fill_between(edges, line, heights, step="post", color=colour, alpha=alpha, linewidth=0, zorder=2)
    medians = [_quantile(calls, 0.5) / latency.p50_ms for calls in latency.rounds_ms if calls]
    axes.plot(medians, [line + 5] * len(medians), "o", color=MUTED, markersize=2, markeredgewidth=0, zorder=2)
