"""What pruning to a time did, for the record and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Timing:
    """What pruning to a time did: milliseconds at the median, of files side by side on `target`.

    `floor_ms` is the fastest reachable; `predicted_ms` what the layers' table said of the choice before its file was
    measured; `tries` both for each choice that was measured on the way; `layers` holds for each layer what it takes
    before and after by the table, 0 if its block is gone; `importance` for each of them that lost channels the mean
    score of those, over the mean of all that could go; `over_ms` is what the whole network takes in fp32, where a
    speed-up over that was asked for a file of another precision.
    """

    target: str
    precision: str
    batch: int
    whole_ms: float
    wanted_ms: float
    floor_ms: float
    predicted_ms: float
    measured_ms: float
    dropped: tuple[str, ...]
    layers: dict[str, tuple[float, float]] = field(repr=False)
    noise: float = 0.0
    importance: dict[str, float] = field(default_factory=dict, repr=False)
    tries: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    over_ms: float | None = None


def in_order(ran: Sequence[str], defined: Sequence[str]) -> tuple[str, ...]:
    """Layers as they `ran`, and each other one behind the one that it was `defined` after.

    What is named after a module, as attention is, stands behind the last layer inside of that.
    """
    found = [name for name in ran if not _inside(name, ran)]
    for at, name in enumerate(defined):
        if name not in found:
            found.insert(found.index(defined[at - 1]) + 1 if at else 0, name)
    for name in (name for name in ran if name not in found):
        found.insert(found.index(_inside(name, found)[-1]) + 1, name)
    return tuple(found)


def _inside(module: str, layers: Sequence[str]) -> list[str]:
    return [layer for layer in layers if layer.startswith(f"{module}.")]
