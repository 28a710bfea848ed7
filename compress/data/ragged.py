"""Rows of different lengths in one array: token ids of a whole split, of which a batch is a few slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]
Row = Sequence[int] | Integers


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is `values[starts[i]:stops[i]]`; `values` int32, `starts` and `stops` int64 of length N."""

    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Ragged:
        """Rows one after the other; each a list or an array of whole numbers."""
        kept = list(rows)
        lengths = np.fromiter((len(row) for row in kept), np.int64, len(kept))
        values = np.fromiter(chain.from_iterable(kept), np.int32, int(lengths.sum()))
        return cls.joined(values, lengths)

    @classmethod
    def joined(cls, values: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> Ragged:
        """Rows of those lengths, which lie in `values` without gaps."""
        stops = np.cumsum(lengths, dtype=np.int64)
        return cls(values, stops - lengths, stops)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        return self.values[self.starts[index] : self.stops[index]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How long each row is, N."""
        return self.stops - self.starts

    def take(self, indices: Integers) -> Ragged:
        """Some of the rows, without copying their values."""
        return Ragged(self.values, self.starts[indices], self.stops[indices])

    def padded(self, fill: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Rows side by side, filled up on the right: (N x T int64, N x T whether there is a value); T is at least 1."""
        lengths = self.lengths
        columns = np.arange(max(1, int(lengths.max(initial=0))))
        there = columns < lengths[:, None]
        table = np.full(there.shape, fill, dtype=np.int64)
        table[there] = self.values[(self.starts[:, None] + columns)[there]]
        return table, there
