"""Ticks with numbers that people write: 0.1, 0.2, 0.5, 1, never 10 to the minus one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis


def log_ticks(axis: Axis, low: float, high: float, most: int = 7) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, or fewer; evenly spaced in a narrow range."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        places = [digit * 10.0**power for power in decades for digit in digits]
        places = [place for place in places if low <= place <= high]
        if len(places) <= most:
            break
    if len(places) < 3:
        places = [place for place in MaxNLocator(4).tick_values(low, high) if low <= place <= high]
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def numbered_ticks(axis: Axis, most: int = 5) -> None:
    """A few ticks of a linear axis, written out."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """A tick's number without trailing zeros or powers of ten."""
    return f"{value:.6f}".rstrip("0").rstrip(".").replace("-", "−") if abs(value) < 1e6 else f"{value:,.0f}"
