"""A Matplotlib figure as SVG inside a page: the page's own font and colours, the same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 380.0  # units across: about one CSS pixel on a phone, 1.4 on a desk
COLOURS = {  # Matplotlib needs colours, the page knows them only by name: each stands for a CSS variable
    "#010203": "currentColor",
    "#010204": "var(--muted)",
    "#010205": "var(--line)",
    "#010206": "var(--accent)",
    "#010207": "var(--good)",
    "#010208": "var(--bad)",
    "#010209": "var(--surface)",
    "#01020a": "var(--accent-soft)",
    "#01020b": "var(--grid)",
    "#01020c": "var(--violet)",
}
INK, MUTED, LINE, ACCENT, GOOD, BAD, SURFACE, SOFT, GRID, VIOLET = COLOURS
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "compress",
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "butt",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside it: our settings whatever a `matplotlibrc` says; a glyph missing here is the page's to draw."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def new_figure(height: float) -> Figure:
    """An empty transparent figure, `height` units high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none", edgecolor="none")


def inline_svg(figure: Figure, name: str, label: str, haloed: bool = False) -> str:
    """The figure as one `<svg>` element whose ids begin with `name`.

    `label` is for those who do not see it; `haloed` keeps lines of the picture from crossing its words.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    height = figure.get_figheight() * 72
    kind = ' class="haloed"' if haloed else ""
    head = f'<svg{kind} viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">'
    text = head + text[text.index(">") + 1 :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for stand_in, colour in COLOURS.items():
        text = text.replace(stand_in, colour)
    return _own_ids(text, name).strip()


def _own_ids(text: str, name: str) -> str:
    """Several pictures share a page: ids that are used get the picture's name, others go."""
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'xlink:href="#([^"]+)"', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{name}-{found[1]})", text)
    return re.sub(r'xlink:href="#([^"]+)"', lambda found: f'href="#{name}-{found[1]}"', text)
