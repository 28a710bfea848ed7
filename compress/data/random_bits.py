"""Random numbers as a pure function of what they are for, the same in every process, library version and batch.

NumPy's generators may change their streams between versions and cost microseconds each to seed; a hash of (key, index)
does neither.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def key_of(*numbers: int) -> int:
    """One 64-bit key of several whole numbers; their order matters."""
    key = 0
    for number in numbers:
        key = _mix_one((key + _GOLDEN + (number & _MASK)) & _MASK)
    return key


def random_bits(key: int, indices: npt.NDArray[np.integer]) -> Bits:
    """64 random bits for each index: splitmix64 (Steele, Lea and Flood 2014, figure 15), started at `key`."""
    state = np.asarray(indices).astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def random_integers(key: int, indices: npt.NDArray[np.integer], below: int) -> npt.NDArray[np.int64]:
    """A whole number in [0, below) for each index; `below` is far under 2^32, so that the bias is under 1e-6."""
    high = random_bits(key, indices) >> np.uint64(32)
    return np.asarray((high * np.uint64(below)) >> np.uint64(32), dtype=np.int64)


def random_shares(key: int, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each index, evenly spread, of 53 bits."""
    return np.asarray((random_bits(key, indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def random_order(key: int, count: int) -> npt.NDArray[np.int64]:
    """A permutation of 0 .. count - 1."""
    return np.asarray(np.argsort(random_bits(key, np.arange(count)), kind="stable"), dtype=np.int64)


def _mix_one(state: int) -> int:
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
