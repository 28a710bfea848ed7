"""Layer by layer before and after pruning: output channels, and where the time goes. A line a layer, in both alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.report.axes import linear_ticks
from compress.report.pruned_rows import Layer, Pair, Pruned
from compress.report.svg import ACCENT, BAD, INK, LINE, MUTED, WIDTH, drawing, inline_svg, new_figure
from compress.report.words import ABSENT, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, BAR, TOP, BOTTOM = 16.0, 9.0, 4.0, 20.0  # units
NAMES, NUMBERS = 128.0, 98.0  # units to the left and to the right of the bars
SIZE, LONGEST, MOST = 9.5, 22, 36  # of letters; letters of a name; lines of one picture
Drawn = tuple[str, str, str]
"""A heading, the picture, and its caption; parts behind the first have none."""


@dataclass(frozen=True)
class Bar:
    """One line: how long its bars are, None for none, and the words at its end."""

    name: str
    values: Pair | None
    words: str
    gone: bool


def channels_by_layer(pruned: Pruned, name: str) -> list[Drawn]:
    """Output channels of each layer before and after, in pictures of at most `MOST` layers; `name` begins their ids."""
    bars = [Bar(layer.name, layer.channels, _channels(layer, pruned), layer.gone) for layer in pruned.layers]
    caption = "Output channels of each layer, in the order of the network. Pale: before; full: after."
    if any(layer.gone for layer in pruned.layers):
        caption += " “Gone” is a layer whose whole block was removed."
    if any(layer.channels is None and layer.name not in pruned.fixed for layer in pruned.layers):
        caption += f" {ABSENT}: has as many as it is given (a depthwise convolution, attention)."
    return _pictures(bars, "Channels by layer", "output channels", f"{name}-channels", caption)


def time_by_layer(pruned: Pruned, name: str) -> list[Drawn]:
    """Milliseconds of each layer before and after, as `channels_by_layer`; nothing if no time was asked."""
    if pruned.times is None:
        return []
    slowest = max((max(layer.ms) for layer in pruned.layers if layer.ms), default=0.0)
    decimals = max(2 - math.floor(math.log10(slowest)), 0) if slowest > 0 else 0
    bars = [Bar(layer.name, layer.ms, _times(layer, decimals), layer.gone) for layer in pruned.layers]
    caption = (
        f"What each layer takes on {pruned.times.target}, by the table that was measured of such layers alone. "
        "Pale: before; full: after. What lies between layers is not in it: they need not add up to the file's time."
    )
    return _pictures(bars, "Time by layer", "ms", f"{name}-times", caption)


def _channels(layer: Layer, pruned: Pruned) -> str:
    if layer.channels is None:
        return "not pruned" if layer.name in pruned.fixed else "gone" if layer.gone else ABSENT
    before, after = layer.channels
    return f"{before} → gone" if layer.gone else f"{before} → {after}" if before != after else f"{before}, all kept"


def _times(layer: Layer, decimals: int) -> str:
    if layer.ms is None:
        return ABSENT
    before, after = (f"{ms:.{decimals}f}" for ms in layer.ms)
    return f"{before} → gone" if layer.gone else f"{before} → {after}" if before != after else before


def _pictures(bars: Sequence[Bar], title: str, unit: str, name: str, caption: str) -> list[Drawn]:
    if not any(bar.values for bar in bars):
        return []
    names = told_apart([bar.name for bar in bars], LONGEST)
    longest = max(max(bar.values) for bar in bars if bar.values) or 1.0
    parts = math.ceil(len(bars) / MOST)
    each = math.ceil(len(bars) / parts)
    found = []
    for at in range(parts):
        shown = bars[at * each : (at + 1) * each]
        range_of = f", {at * each + 1} to {at * each + len(shown)} of {len(bars)}" if parts > 1 else ""
        said = caption if at == 0 else f"{title}{range_of}, on the same scale."
        with drawing():
            svg = _draw(shown, names, longest, unit, f"{name}-{at}", said)
        found.append((title + range_of, svg, caption if at == 0 else ""))
    return found


def _draw(bars: Sequence[Bar], names: dict[str, str], longest: float, unit: str, name: str, caption: str) -> str:
    height = ROW * len(bars)
    total = TOP + height + BOTTOM
    figure = new_figure(total)
    axes = figure.add_axes((NAMES / WIDTH, BOTTOM / total, 1 - (NAMES + NUMBERS) / WIDTH, height / total))
    axes.set_xlim(0, longest)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    linear_ticks(axes.xaxis, -0.05 * longest, longest, 4)
    axes.grid(axis="x")
    axes.tick_params(labelsize=SIZE)
    axes.text(_at(WIDTH - 2), height + 5, unit, transform=axes.get_yaxis_transform(), **_right(MUTED), va="top")
    for at, bar in enumerate(bars):
        _draw_bar(axes, bar, names[bar.name], ROW * (at + 0.5))
    return inline_svg(figure, name, caption)


def _at(units: float) -> float:
    """A place across the picture, as a share of the width of the bars."""
    return (units - NAMES) / (WIDTH - NAMES - NUMBERS)


def _right(colour: str) -> dict[str, Any]:
    return {"ha": "right", "fontsize": SIZE, "color": colour}


def _draw_bar(axes: Axes, bar: Bar, name: str, middle: float) -> None:
    place = axes.get_yaxis_transform()
    plain = bar.values is None or bar.gone
    colour = MUTED if plain else INK
    axes.text(_at(2), middle, name, transform=place, va="center", fontsize=SIZE, color=colour)
    tint = _right(BAD if bar.gone else colour)
    axes.text(_at(WIDTH - 2), middle, bar.words, transform=place, va="center", **tint)
    if bar.values is None:
        return
    before, after = bar.values
    axes.barh(middle, before, BAR, color=LINE, alpha=0.75, linewidth=0, clip_on=False, zorder=2)
    if after and not bar.gone:
        axes.barh(middle, after, BAR, color=ACCENT, linewidth=0, clip_on=False, zorder=3)
