"""What a report holds of a prune step, as typed rows. The one place that knows the keys of `pruning`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

Pair = tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """A layer before and after: its output channels, its milliseconds by the table, None where that is not known.

    `worth` is the mean importance of the channels that it lost, over that of all channels that could go; `gone` says
    that its block is gone.
    """

    name: str
    channels: tuple[int, int] | None
    ms: Pair | None
    worth: float | None
    gone: bool


@dataclass(frozen=True)
class Times:
    """Medians of whole files in milliseconds, and on what; `noise` is a layer's spread between rounds, relative.

    `over_ms` is of the whole network in fp32, where a speed-up over that was asked for another precision.
    """

    target: str
    precision: str
    batch: int
    whole_ms: float
    wanted_ms: float
    predicted_ms: float
    measured_ms: float
    floor_ms: float
    noise: float
    over_ms: float | None


@dataclass(frozen=True)
class Pruned:
    """What pruning did. `asked` and `reached` are shares of `measure`, or milliseconds if there are `times`.

    `layers` are in the order of the network; `fixed` holds why a layer could not be pruned. `reconstructed` holds, of
    each layer that lost what it read, the share of the error that is left once the others take over.
    """

    measure: str
    asked: float
    reached: float
    before: Mapping[str, int]
    after: Mapping[str, int]
    layers: tuple[Layer, ...]
    fixed: Mapping[str, str]
    dropped: tuple[str, ...]
    times: Times | None
    reconstructed: tuple[float, ...]


def read_pruned(log: Mapping[str, Any]) -> Pruned:
    """The typed form of `pruning`.

    Raises:
        KeyError, TypeError, ValueError: it was not written by this version.
    """
    timing, dropped = log["timing"] or {}, tuple(log["dropped"])
    layers = tuple(_layer(name, log, timing, dropped) for name in log["order"])
    times = Times(**{field.name: timing[field.name] for field in fields(Times)}) if timing else None
    return Pruned(
        measure=log["measure"],
        asked=log["asked"],
        reached=log["reached"],
        before=dict(log["before"]),
        after=dict(log["after"]),
        layers=layers,
        fixed=dict(log["fixed"]),
        dropped=dropped,
        times=times,
        reconstructed=tuple(float(error) for error in log["reconstructed"].values()),
    )


def _layer(name: str, log: Mapping[str, Any], timing: Mapping[str, Any], dropped: tuple[str, ...]) -> Layer:
    channels, ms = log["widths"].get(name), timing.get("layers", {}).get(name)
    return Layer(
        name=name,
        channels=(int(channels[0]), int(channels[1])) if channels else None,
        ms=(float(ms[0]), float(ms[1])) if ms else None,
        worth=timing.get("importance", {}).get(name),
        gone=any(name == block or name.startswith(f"{block}.") for block in dropped),
    )
