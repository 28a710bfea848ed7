"""What a tensor holds over batches, for its range: extremes of each batch, counts of all values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quantization.ranges import Floats

Array = NDArray[Any]
BINS = 2048
VALUES_PER_BATCH = 2**17
"""Values of a tensor that one batch adds to its histogram, evenly spaced; extremes are taken over all."""


class Extremes:
    """Least and greatest value of each batch."""

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []

    def __call__(self, values: Array) -> None:
        """Note one batch."""
        self.add(float(values.min()), float(values.max()))

    def add(self, low: float, high: float) -> None:
        """Note the extremes of one batch."""
        self.lows.append(low)
        self.highs.append(high)

    @property
    def range(self) -> tuple[float, float]:
        """What holds all values and 0."""
        return min(*self.lows, 0.0), max(*self.highs, 0.0)

    @property
    def is_finite(self) -> bool:
        """Whether there was a batch, and all values were finite."""
        return bool(self.lows) and bool(np.isfinite([*self.lows, *self.highs]).all())


class Histogram:
    """Counts of a tensor's values in equal bins from `low` to `high`, between which all of them lie."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self.counts: Floats = np.zeros(BINS)

    def __call__(self, values: Array) -> None:
        """Count one batch."""
        flat = values.reshape(-1)
        flat = flat[:: spacing(flat.size)].astype(np.float64)
        steps = ((flat - self.low) * (BINS / (self.high - self.low))).astype(np.int64)
        self.counts += np.bincount(np.clip(steps, 0, BINS - 1), minlength=BINS)


def spacing(size: int) -> int:
    """Every how many-th of a batch's values is counted."""
    return max(1, math.ceil(size / VALUES_PER_BATCH))
