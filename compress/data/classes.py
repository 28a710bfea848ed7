"""Class names -> class numbers, the same over all splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from compress.errors import UsageError
from compress.suggest import did_you_mean


def class_numbers(
    names: Mapping[str, Sequence[str]], labels: tuple[str, ...] | None, what: str
) -> tuple[dict[str, npt.NDArray[np.int64]], tuple[str, ...]]:
    """The number of each example's class, and the names in the order of the numbers.

    Args:
        names: for each split, the class name of each example.
        labels: the order that the user gave; by default names are sorted (by number where all are numbers).
        what: what holds the names, for messages.

    Raises:
        UsageError: a class that `labels` does not have.
    """
    found = {name for split in names.values() for name in split}
    order = labels or tuple(sorted(found, key=lambda name: (int(name), name) if _numbers(found) else (0, name)))
    number = {name: position for position, name in enumerate(order)}
    if unknown := sorted(found - number.keys()):
        hint = did_you_mean(unknown[0], order)
        raise UsageError(f"data: {what} has the class {unknown[0]!r}, which `labels` does not name{hint}")
    numbers = {split: np.array([number[name] for name in values], dtype=np.int64) for split, values in names.items()}
    return numbers, order


def _numbers(names: set[str]) -> bool:
    return all(name.isdecimal() for name in names)
