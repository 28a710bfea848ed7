"""How much of an activation's range to represent: pure functions of a histogram."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compress.quantization.fake_quantize import QUANTIZED_MAX, QUANTIZED_MIN, grid

Floats = NDArray[np.float64]
Bounds = tuple[float, float] | None
KEPT_SHARE, KEPT_SHARE_SYMMETRIC = 0.9999, 0.99999
"""Of all values. On the grid without zero points less is left out: behind a relu TensorRT's file cuts off what ONNX
Runtime's, which has twice the range there, does not, and the two should give the same answers."""
CANDIDATES = 48
SMALLEST_SHARE = 0.3


def minmax(counts: Floats, low: float, high: float, bounds: Bounds, symmetric: bool) -> tuple[float, float]:
    """Everything that was seen."""
    return 1.0, 1.0


def percentile(counts: Floats, low: float, high: float, bounds: Bounds, symmetric: bool) -> tuple[float, float]:
    """The least and greatest value that leave out (1 - the kept share) of all values, half of them at either end."""
    edges = np.linspace(low, high, len(counts) + 1)
    cumulated = np.cumsum(counts) / counts.sum()
    left_out = (1 - (KEPT_SHARE_SYMMETRIC if symmetric else KEPT_SHARE)) / 2
    first = int(np.searchsorted(cumulated, left_out, side="right"))
    last = int(np.searchsorted(cumulated, 1 - left_out, side="left"))
    lowest, highest = min(float(edges[first]), 0.0), max(float(edges[min(last, len(counts) - 1) + 1]), 0.0)
    return lowest / low if low < 0 else 1.0, highest / high if high > 0 else 1.0


def mse(counts: Floats, low: float, high: float, bounds: Bounds, symmetric: bool) -> tuple[float, float]:
    """The shares of `low` and `high` whose grid leaves the least squared error over all values.

    Both ends shrink together first, then each alone: near the best of all pairs at a fraction of their number.
    """
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts)

    def error(low_share: float, high_share: float) -> float:
        scale, zero_point = grid(low * low_share, high * high_share, bounds, symmetric)
        steps = np.clip(np.round(centres / scale), QUANTIZED_MIN - zero_point, QUANTIZED_MAX - zero_point)
        return float(np.dot(counts, (steps * scale - centres) ** 2))

    return _least(error, low, high)


def _least(error: Callable[[float, float], float], low: float, high: float) -> tuple[float, float]:
    """The shares of `low` and `high` with the least error: of both together first, then of each alone."""
    shares = np.linspace(1.0, SMALLEST_SHARE, CANDIDATES)
    both = min(shares, key=lambda share: error(share, share))
    high_share = min(shares, key=lambda share: error(both, share)) if high > 0 else 1.0
    low_share = min(shares, key=lambda share: error(share, high_share)) if low < 0 else 1.0
    return float(low_share), float(high_share)


def entropy(counts: Floats, low: float, high: float, bounds: Bounds, symmetric: bool) -> tuple[float, float]:
    """The shares of `low` and `high` whose quantized distribution diverges least from the whole one (KL).

    Migacz 2017, "8-bit Inference with TensorRT": what lies outside is counted at the ends; inside, each step spreads
    its count evenly over the bins of it that are not empty. The ends shrink as in `mse`.
    """
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts)

    def divergence(low_share: float, high_share: float) -> float:
        scale, zero_point = grid(low * low_share, high * high_share, bounds, symmetric)
        steps = np.rint(centres / scale)
        inside = (steps >= QUANTIZED_MIN - zero_point) & (steps <= QUANTIZED_MAX - zero_point)
        if not inside.any():
            return float("inf")
        reference = np.where(inside, counts, 0.0)
        first, last = np.flatnonzero(inside)[[0, -1]]
        reference[first] += counts[:first].sum()
        reference[last] += counts[last + 1 :].sum()
        kept = inside & (counts > 0)
        codes = (steps - steps[first]).astype(int).clip(0, QUANTIZED_MAX - QUANTIZED_MIN)
        totals = np.bincount(codes[kept], counts[kept], minlength=QUANTIZED_MAX - QUANTIZED_MIN + 1)
        bins = np.bincount(codes[kept], minlength=len(totals))
        spread = np.where(kept, (totals / bins.clip(1))[codes], 0.0)
        p, q = reference / reference.sum(), spread / max(spread.sum(), 1e-300)
        seen = p > 0
        return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))))

    return _least(divergence, low, high)


CHOICES: dict[str, Callable[[Floats, float, float, Bounds, bool], tuple[float, float]]] = {
    "minmax": minmax,
    "mse": mse,
    "percentile": percentile,
    "entropy": entropy,
}
"""`calibration` in YAML -> function of (counts of equal bins from low to high, low, high, bounds, symmetric)."""
