"""The latency table: how long each kind of layer takes at each of several channel counts on one target."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from compress.pruning.latency.kinds import LayerKind


@dataclass(frozen=True)
class Grid:
    """Microseconds of one kind of layer: `microseconds[i][j]` with `inputs[i]` input and `outputs[j]` output channels.

    Of layers whose inputs are their outputs (depthwise, attention) `inputs` is empty and there is one row. `noise` is
    the median, over the points, of (largest - smallest) / median between rounds of fresh processes.
    """

    kind: LayerKind
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    microseconds: tuple[tuple[float, ...], ...]
    noise: float

    def at(self, inputs: int, outputs: int) -> float:
        """Microseconds between the points by linear interpolation; outside of them as at the nearest one's slope."""
        rows = [_between(self.outputs, row, outputs) for row in self.microseconds]
        return max(0.0, _between(self.inputs, rows, inputs) if self.inputs else rows[0])

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "kind": self.kind.plain()}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Grid:
        """The inverse of `plain`."""
        rows = tuple(tuple(row) for row in data["microseconds"])
        kind = LayerKind.from_plain(data["kind"])
        return cls(kind, tuple(data["inputs"]), tuple(data["outputs"]), rows, data["noise"])


@dataclass(frozen=True)
class LatencyTable:
    """The grids of a network's kinds of layers, for one batch size and emission on one target."""

    batch: int
    grids: Mapping[LayerKind, Grid]

    def microseconds(self, kind: LayerKind, inputs: int, outputs: int) -> float:
        """What the table says of one layer."""
        return self.grids[kind].at(inputs, outputs)


def _between(places: tuple[int, ...], values: tuple[float, ...] | list[float], at: int) -> float:
    """Linear interpolation between points, and beyond them along the outermost pair."""
    if len(places) == 1:
        return values[0]
    right = min(max(bisect_left(places, at), 1), len(places) - 1)
    left = right - 1
    share = (at - places[left]) / (places[right] - places[left])
    return values[left] + share * (values[right] - values[left])
