"""Preprocessed examples of a split, kept in memory where they are few."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compress.data.preprocessing import Preprocessing
from compress.data.splits import Array, Split
from compress.errors import UsageError

KEEP_BYTES = 512 * 1024**2
"""Preprocessed examples of a split are kept in memory if all of them take less."""


class Prepared:
    """Preprocessed examples of a split, each kept after its first use if all of them fit in `KEEP_BYTES`."""

    def __init__(self, split: Split, preprocessing: Preprocessing, shape: tuple[int, ...]) -> None:
        self.split = split
        self._preprocessing = preprocessing
        small = len(split) * int(np.prod(shape)) * 4 < KEEP_BYTES
        self._kept = np.empty((len(split), *shape), dtype=np.float32) if small else None
        self._known = np.zeros(len(split), dtype=bool)

    def __call__(self, indices: npt.NDArray[np.int64]) -> Array:
        """A batch, N x the shape."""
        if self._kept is None:
            return prepare(self.split, self._preprocessing, indices)
        new = np.unique(indices[~self._known[indices]])
        if len(new):
            examples = prepare(self.split, self._preprocessing, new)
            if examples.shape[1:] != self._kept.shape[1:]:
                raise UsageError(
                    f"data: preprocessing gives examples of shapes {self._kept.shape[1:]} and {examples.shape[1:]}; "
                    "add `resize`, `center_crop` or `color` so that all come out in one shape"
                )
            self._kept[new] = examples
            self._known[new] = True
        return np.asarray(self._kept[indices])


def prepare(split: Split, preprocessing: Preprocessing, indices: npt.NDArray[np.int64]) -> Array:
    """Preprocessed examples, N x their shape.

    Raises:
        UsageError: preprocessing cannot take an example.
    """
    try:
        return preprocessing(split.raw(indices))
    except ValueError as error:
        raise UsageError(f"data: preprocessing: {error}") from error
