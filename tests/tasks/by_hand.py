"""What the tests of several tasks compute by its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def f1_by_hand(found: Array, right: Array) -> float:
    """2 TP / (2 TP + FP + FN) of two lists of truths."""
    both, either = np.sum(found & right), np.sum(found ^ right)
    return float(2 * both / (2 * both + either)) if both + either else 0.0
