"""What each layer's lost channels were worth, against the time that the layer saves."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report.axes import linear_ticks
from compress.report.labels import Label, place_labels
from compress.report.pruned_rows import Layer, Pruned
from compress.report.svg import ACCENT, INK, LINE, MUTED, WIDTH, drawing, inline_svg, new_figure
from compress.report.words import told_apart

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 290.0, 40.0, 10.0, 26.0, 40.0  # units
NAMED, LONGEST = 4, 24  # layers that are named for either reason; letters of a name
Point = tuple[Layer, float, float]


def worth_against_time(pruned: Pruned, name: str) -> tuple[str, str] | None:
    """The picture and its caption, or None if fewer than two layers have both; ids begin with `name`."""
    points = [
        (layer, layer.ms[0] - layer.ms[1], layer.worth)
        for layer in pruned.layers
        if layer.worth is not None and layer.ms is not None and not layer.gone
    ]
    if len(points) < 2:
        return None
    caption = _caption(pruned, points)
    with drawing():
        figure = new_figure(HEIGHT)
        rect = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT)
        axes = figure.add_axes(rect)
        axes.set_xlim(*_limits([ms for _, ms, _ in points]))
        axes.set_ylim(*_limits([1.0, *(worth for _, _, worth in points)]))
        linear_ticks(axes.xaxis, *axes.get_xlim())
        linear_ticks(axes.yaxis, *axes.get_ylim())
        axes.axhline(1, color=LINE, linewidth=1, dashes=(4, 3), zorder=1)
        axes.grid()
        for _, ms, worth in points:
            axes.plot([ms], [worth], "o", color=ACCENT, alpha=0.8, markersize=6, markeredgewidth=0, zorder=3)
        above = "mean importance of lost channels (1: of all)"
        axes.text(0, 1.03, above, transform=axes.transAxes, color=MUTED, va="bottom")
        axes.set_xlabel("time saved, ms", labelpad=4, loc="right")
        names = told_apart([layer.name for layer, _, _ in points], LONGEST)
        labels = {layer.name: Label(names[layer.name], ms, worth, 4.0, INK, False, None) for layer, ms, worth in points}
        place_labels(axes, [labels[key] for key in _named(points)], list(labels.values()), None)
        return inline_svg(figure, f"{name}-worth", caption, haloed=True), caption


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """A little more than from the least of them and zero to the largest."""
    low, high = min(0.0, *values), max(values)
    pad = 0.08 * (high - low) or 1.0
    return low - pad, high + pad


def _named(points: Sequence[Point]) -> list[str]:
    """The layers that save the most, and those whose lost channels were worth the most."""
    fast = sorted(points, key=lambda point: -point[1])[:NAMED]
    dear = sorted(points, key=lambda point: -point[2])[:NAMED]
    return list(dict.fromkeys(layer.name for layer, _, _ in (*fast, *dear)))


def _caption(pruned: Pruned, points: Sequence[Point]) -> str:
    parts = [
        "Each layer that lost channels: the time that it saves itself, by the table of layers, and how important those "
        "channels were in the whole network, on average. Best is down and to the right.",
    ]
    if pruned.dropped:
        parts.append("Blocks that are gone were judged by the loss without them, and are not shown.")
    if len(_named(points)) < len(points):
        parts.append("Named are those that save the most time or lost the most important channels.")
    return " ".join(parts)
