"""What a rung of the ladder gave, in words, by what is judged."""

from __future__ import annotations

from compress.report.int8_rows import Quantized, Rung
from compress.report.words import ABSENT, is_share, metric_name, metric_value, percent, points, rounded, seconds


def loss_heading(metric: str) -> str:
    """What a loss is called."""
    return {"agreement": "answers changed", "relative_error": "relative squared error"}.get(metric, "loss")


def loss_value(metric: str, loss: float | None) -> str:
    """A loss in its unit."""
    if loss is None:
        return ABSENT
    if metric == "agreement":
        return percent(loss)
    return points(loss) if is_share(metric) else rounded(loss)


def loss_words(metric: str, loss: float | None) -> str:
    """What a rung loses, as a clause behind its name."""
    if loss is None:
        return "whose loss is not known"
    if metric == "relative_error":
        return f"with a relative squared error of {rounded(loss)}"
    if metric == "agreement":
        return f"which changes {percent(loss)} of the answers"
    return f"which loses {loss_value(metric, loss) if loss > 0 else 'nothing'} of {metric_name(metric)}"


def rung_lines(metric: str, quantized: Quantized) -> list[str]:
    """A line a rung, for a terminal."""
    return [_line(metric, rung, rung.name == quantized.kept) for rung in quantized.rungs]


def _line(metric: str, rung: Rung, kept: bool) -> str:
    value = rung.metrics.get(metric)
    parts = [] if value is None else [metric_value(metric, value)]
    parts.append(f"{loss_heading(metric)} {loss_value(metric, rung.loss)}")
    parts += [] if rung.seconds is None else [seconds(rung.seconds)]
    return f"int8, {rung.meaning}: {', '.join(parts)}{' (kept)' if kept else ''}"
