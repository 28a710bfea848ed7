"""Ticks with numbers that people write: 0.1, 0.2, 0.5, 1, never 10 to the minus one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

EDGE = 0.03  # share of an axis at either end that stays free of ticks, so that their numbers do not stick out


def log_ticks(axis: Axis, low: float, high: float, most: int = 7) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, or fewer; evenly spaced in a narrow range."""
    edge = (high / low) ** EDGE
    low, high = low * edge, high / edge
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        places = [place for power in decades for digit in digits if low <= (place := digit * 10.0**power) <= high]
        if len(places) <= most:
            break
    _set(axis, places if len(places) >= 3 else _even(low, high, 4))


def linear_ticks(axis: Axis, low: float, high: float, most: int = 5) -> None:
    """A few evenly spaced ticks between the two ends of an axis."""
    edge = EDGE * (high - low)
    _set(axis, _even(low + edge, high - edge, most))


def _even(low: float, high: float, most: int) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    places = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(place) for place in places if low <= place <= high]


def _set(axis: Axis, places: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """A tick's number without trailing zeros or powers of ten."""
    return f"{value:.6f}".rstrip("0").rstrip(".").replace("-", "−") if abs(value) < 1e4 else f"{value:,.0f}"
