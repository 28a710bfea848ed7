"""Names beside points, each where it covers no other name and no mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.report.svg import LINE, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# (side, units above), in the order in which they are tried
BESIDE = [(side, 0.0) for side in (1, -1)]
NEAR = [*BESIDE, *((side, sign * rise) for rise in (13.0, 20.0) for sign in (1, -1) for side in (1, 0, -1))]
FAR = [(side, sign * rise) for rise in range(26, 118, 13) for sign in (1, -1) for side in (1, 0, -1)]


@dataclass(frozen=True)
class Label:
    """A name for the point at `x`, `y` (data), whose mark reaches `reach` units from there; `whisker` is in y data."""

    text: str
    x: float
    y: float
    reach: float
    colour: str
    bold: bool
    whisker: tuple[float, float] | None


def place_labels(axes: Axes, labels: Sequence[Label], marks: Sequence[Label], line: float | None) -> None:
    """Write each of `labels` at the first place that is free, near ones first; far ones get a leader.

    `marks` are all points of the picture, `line` the x of an upright line. Whiskers and line are kept free too if that
    is possible. What finds no place at all is left out: the table has every name.
    """
    boxes = [_mark(axes, mark) for mark in marks]
    whiskers = [_whisker(axes, mark, mark.whisker) for mark in marks if mark.whisker is not None]
    if line is not None:
        whiskers.append(_whisker(axes, Label("", line, 0, 0, "", False, None), axes.get_ylim()))
    for label in labels:
        _place(axes, label, boxes, whiskers)


def _place(axes: Axes, label: Label, boxes: list[Bbox], whiskers: Sequence[Bbox]) -> None:
    x, y = axes.transData.transform((label.x, label.y))
    weight = "bold" if label.bold else "normal"
    drawn = axes.annotate(
        label.text, (x, y), xycoords="figure pixels", color=label.colour, weight=weight, fontsize=9.5, va="center"
    )
    everything = [*boxes, *whiskers]
    for kept_free, places in ((everything, NEAR), (boxes, BESIDE), (everything, FAR), (boxes, [*NEAR, *FAR])):
        for side, rise in places:
            at_x, at_y = x + side * (label.reach + 3), y + rise
            if side == 0:
                half = drawn.get_window_extent().width / 2
                at_x = min(max(x, axes.bbox.x0 + half + 3), WIDTH - half - 3)
            drawn.set_position((at_x, at_y))
            drawn.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
            box = drawn.get_window_extent()
            inside = (
                box.x0 >= axes.bbox.x0 + 2 and box.x1 <= WIDTH - 1 and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            )
            if not inside or any(box.overlaps(other) for other in kept_free):
                continue
            boxes.append(box)
            if abs(rise) > 20:
                toward = at_y - 6 if rise > 0 else at_y + 6
                ends = axes.transData.inverted().transform([(x, y), (at_x, toward)])
                axes.plot(ends[:, 0], ends[:, 1], color=LINE, linewidth=0.8, zorder=1.5)
            return
    drawn.remove()


def _mark(axes: Axes, mark: Label) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform((mark.x, mark.y))
    return Bbox([[x - mark.reach, y - mark.reach], [x + mark.reach, y + mark.reach]])


def _whisker(axes: Axes, mark: Label, ends: tuple[float, float]) -> Bbox:
    from matplotlib.transforms import Bbox

    (x, low), (_, high) = (axes.transData.transform((mark.x, end)) for end in ends)
    return Bbox([[x - 2, low - 1], [x + 2, high + 1]])
