"""Which test examples a file answers rightly, kept in its report: what two runs are compared by in pairs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.tasks.paired import mcnemar, newcombe_paired

Bits = npt.NDArray[np.bool_]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Right:
    """Of the answers that `file` gave on `target`, example by example: whether each is right."""

    file: str
    target: str
    bits: Bits


@dataclass(frozen=True)
class PairedShares:
    """What the second of two files gains in accuracy on the same examples, with its 95 % interval (Newcombe 1998).

    `only_first` and `only_second` are how many examples only that file has right; `p_value` is McNemar's exact one.
    """

    gain: float
    ci95: Interval
    only_first: int
    only_second: int
    p_value: float


def packed(right: Bits) -> dict[str, Any]:
    """Plain data: how many `examples`, and a bit for each as base64."""
    return {"examples": len(right), "bits": base64.b64encode(np.packbits(right).tobytes()).decode()}


def unpacked(row: Mapping[str, Any]) -> Bits:
    """The inverse of `packed`.

    Raises:
        ValueError: there are not as many bits as examples.
    """
    try:
        content = np.frombuffer(base64.b64decode(row["bits"], validate=True), np.uint8)
    except binascii.Error as error:
        raise ValueError("the bits of right answers are damaged") from error
    examples = row["examples"]
    if len(content) != -(-examples // 8):
        raise ValueError(f"{len(content)} bytes of right answers do not hold {examples} examples")
    return np.unpackbits(content, count=examples).astype(bool)


def read_right(row: Mapping[str, Any]) -> Right:
    """The typed form of `right`."""
    return Right(row["file"], row["target"], unpacked(row))


def paired(first: Bits, second: Bits) -> PairedShares:
    """What the second has right more than the first, of the same examples in the same order.

    Raises:
        ValueError: they are not of as many examples, or of none.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} examples cannot be paired")
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    lost, gained = int((first & ~second).sum()), int((~first & second).sum())
    ci95 = newcombe_paired(both, gained, lost, neither)
    return PairedShares((gained - lost) / len(first), ci95, lost, gained, mcnemar(lost, gained))
