"""Numbers as people read them: rounded to what a measurement supports, with their unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

ABSENT = "–"
MINUS = "−"
ACRONYMS = frozenset({"mse", "rmse", "mae", "psnr", "ssim", "f1", "auc", "iou", "wer", "l1", "l2"})
Interval = tuple[float, float]


def rounded(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits, never in powers of ten: 0.0981, 4.12, 412, 12300."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else ABSENT
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    decimals = digits - 1 - math.floor(math.log10(abs(round(value, decimals))))  # 9.996 becomes 10.0, not 10.00
    text = f"{round(value, decimals):.{max(decimals, 0)}f}"
    return text.replace("-", MINUS)


def milliseconds(value: float) -> str:
    """A time in ms to 3 significant digits, with its unit."""
    return f"{rounded(value)} ms"


def seconds(value: float) -> str:
    """A duration of work in seconds, or minutes and hours when it is long."""
    if value >= 3600:
        return f"{value // 3600:.0f} h {value % 3600 / 60:.0f} min"
    if value >= 600:
        return f"{value / 60:.0f} min"
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def percent(fraction: float, decimals: int = 2) -> str:
    """A fraction in percent: 98.61 %."""
    return f"{100 * fraction:.{decimals}f} %".replace("-", MINUS)


def points(fraction: float, decimals: int = 2) -> str:
    """A difference of two fractions in percentage points: 0.28 points."""
    return f"{100 * fraction:.{decimals}f} points".replace("-", MINUS)


def ratio(value: float, more_decimals: int = 0) -> str:
    """How many times: 1.04x, 4.3x, 120x."""
    decimals = (2 if value < 2 else 1 if value < 100 else 0) + more_decimals
    return f"{value:.{decimals}f}x"


def size(size_bytes: float, digits: int = 3) -> str:
    """A size in kB, MB or GB (powers of 1000) to 3 significant digits."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(size_bytes) >= 0.9995 * unit:
            return f"{rounded(size_bytes / unit, digits)} {name}"
    return f"{size_bytes:.0f} B"


def count(value: float) -> str:
    """How many: 640, 57.3 k, 2.74 M, 1.1 G."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * unit:
            return f"{rounded(value / unit)} {name}"
    return f"{value:.0f}"


def rate(per_second: float) -> str:
    """Examples in a second, to 3 significant digits with thousands apart: 12,300."""
    text = rounded(per_second)
    return f"{int(text):,}" if text.isdigit() else text


def interval(ends: Interval, write: Callable[[float], str]) -> str:
    """Both ends, the unit written once if they share it: 97.20 to 99.40 %."""
    low, high = write(ends[0]), write(ends[1])
    low_number, _, low_unit = low.partition(" ")
    if low_unit and low_unit == high.partition(" ")[2]:
        return f"{low_number} to {high}"
    return f"{low} to {high}"


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def shortened(name: str, length: int) -> str:
    """A long name with its middle left out, so that what tells two names apart (the ends) stays."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def told_apart(names: Sequence[str], length: int) -> dict[str, str]:
    """Short forms of names for a picture: what all of the long ones begin or end with is left out, then the middle."""
    long = [name for name in names if len(name) > length]
    head = _shared(long)
    tail = _shared([name[head:][::-1] for name in long])
    short: dict[str, str] = {}
    for name in names:
        middle = name[head : len(name) - tail] if name in long else name
        if name in long and middle:
            middle = ("…" if head else "") + middle + ("…" if tail else "")
        short[name] = shortened(middle or name, length)
    return short


def _shared(names: Sequence[str]) -> int:
    """How many letters several names begin with in common."""
    if len(names) < 2:
        return 0
    columns = zip(*names, strict=False)
    return next((at for at, letters in enumerate(columns) if len(set(letters)) > 1), min(map(len, names)))


def metric_name(name: str) -> str:
    """A metric's name as a word: `top5_accuracy` is top5 accuracy, `mse` is MSE."""
    return name.upper() if name in ACRONYMS else name.replace("_", " ")


def is_share(metric: str) -> bool:
    """Whether a metric is a fraction that is written in percent. Others (an mse, a psnr) are plain numbers."""
    return metric.endswith(("accuracy", "agreement", "share", "_rate"))


def metric_value(metric: str, value: float) -> str:
    """A metric's value: accuracies in percent with 2 decimals, others to 4 significant digits."""
    return percent(value) if is_share(metric) else rounded(value, 4)


def metric_change(metric: str, change: float) -> str:
    """A difference of two values of a metric, without direction."""
    return points(abs(change)) if is_share(metric) else rounded(abs(change), 3)


def signed_loss(metric: str, value: float) -> str:
    """One end of an interval of a loss, with its sign."""
    return points(value) if is_share(metric) else rounded(value, 3)
