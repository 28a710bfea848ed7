"""Time by kind of operator, before and after: two bars for each of the few kinds that cost most."""

from __future__ import annotations

from compress.report.axes import linear_ticks
from compress.report.operators import by_family, total
from compress.report.rows import Model
from compress.report.svg import ACCENT, INK, MUTED, WIDTH, drawing, inline_svg, new_figure
from compress.report.words import percent, ratio, rounded

SHOWN = 6
ROW, TOP, BOTTOM, LEFT, RIGHT = 44.0, 26.0, 34.0, 10.0, 12.0  # units


def operators_picture(before: Model, after: Model, words: tuple[str, str]) -> tuple[str, str] | None:
    """The picture and its caption; `words` name the two files. None if one has no times of operators."""
    theirs, ours = by_family(before.operators), by_family(after.operators)
    if not theirs or not ours:
        return None
    spent = {family: (total(theirs.get(family, ())), total(ours.get(family, ()))) for family in {**theirs, **ours}}
    dearest = sorted(spent, key=lambda family: (-max(spent[family]), family))[:SHOWN]
    height = TOP + ROW * len(dearest) + BOTTOM
    longest = max(max(spent[family]) for family in dearest)
    with drawing():
        figure = new_figure(height)
        rect = (LEFT / WIDTH, BOTTOM / height, 1 - (LEFT + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / height)
        axes = figure.add_axes(rect)
        axes.set_xlim(0, longest * 1.2)
        axes.set_ylim(len(dearest), 0)
        for at, family in enumerate(dearest):
            axes.text(0, at + 0.3, family, color=INK, va="bottom", weight="bold", fontsize=9.5)
            for place, (time, colour) in enumerate(zip(spent[family], (MUTED, ACCENT), strict=True)):
                y = at + 0.45 + 0.26 * place
                axes.barh(y, time, height=0.2, color=colour, linewidth=0)
                axes.text(time + longest * 0.012, y, rounded(time) if time else "none", va="center", fontsize=9)
        axes.set_yticks([])
        linear_ticks(axes.xaxis, 0, longest * 1.2)
        axes.grid(axis="x")
        axes.set_xlabel("µs of one call", labelpad=4, loc="right")
        _legend(axes, words)
        sums = total(before.operators), total(after.operators)
        caption = (
            f"The kinds of operators that take longest. All together: {rounded(sums[0])} µs in {before.name}, "
            f"{rounded(sums[1])} µs in {after.name} ({ratio(sums[0] / sums[1])} faster); these "
            f"{len(dearest)} are {percent(_share(dearest, spent, 0, sums[0]), 0)} and "
            f"{percent(_share(dearest, spent, 1, sums[1]), 0)} of it."
        )
        return inline_svg(figure, "operators", caption), caption


def _share(shown: list[str], spent: dict[str, tuple[float, float]], which: int, whole: float) -> float:
    return sum(spent[family][which] for family in shown) / whole


def _legend(axes: object, words: tuple[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=colour, linewidth=0, label=word) for word, colour in zip(words, (MUTED, ACCENT), strict=True)
    ]
    axes.legend(  # type: ignore[attr-defined]
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=2,
        frameon=False,
        handlelength=1.0,
        handleheight=0.7,
        columnspacing=1.4,
        borderaxespad=0.1,
        labelcolor=MUTED,
        fontsize=9.5,
    )
