"""What a report holds of int8, as typed rows. The one place that knows `quantization`, `operators` and `int8`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Left:
    """An operator that could run in int8 and did not."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True)
class Operators:
    """All operators of one kind in a file, as its runtime calls them, and what they take in one call."""

    operator: str
    count: int
    microseconds: float


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder; `loss` against the float network in the metric's unit, `error` of outputs on samples.

    `metrics` are those on validation data, where there is such.
    """

    name: str
    meaning: str
    choice: str
    error: float | None
    loss: float | None
    seconds: float | None
    in_float: tuple[str, ...]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Quantized:
    """What a quantize step did; without `rungs` it calibrated (`post_training`) and perhaps trained (`trained`).

    `kept` names a rung, or `post_training` or `trained`.
    """

    kept: str | None
    grid: str | None
    weight_bits: int | None
    post_training: Mapping[str, Any]
    trained: Mapping[str, Any]
    rungs: tuple[Rung, ...]
    in_float: tuple[str, ...]


@dataclass(frozen=True)
class Worth:
    """Whether the int8 `file` pays beside the best float file `over`: what is said, and why."""

    file: str
    over: str
    pays: bool
    speedup: float
    speedup_ci95: Interval | None
    said: str
    reasons: tuple[str, ...]


def read_quantized(log: Mapping[str, Any]) -> Quantized:
    """The typed form of `quantization`.

    Raises:
        KeyError, TypeError, ValueError: it was not written by this version.
    """
    return Quantized(
        kept=log.get("kept"),
        grid=log.get("grid"),
        weight_bits=log.get("weight_bits"),
        post_training=dict(log.get("post_training") or {}),
        trained=dict(log.get("trained") or {}),
        rungs=tuple(_rung(row) for row in log.get("rungs") or ()),
        in_float=tuple(log.get("in_float") or ()),
    )


RUNG = frozenset({"rung", "meaning", "choice", "error", "loss", "seconds", "in_float"})


def _rung(row: Mapping[str, Any]) -> Rung:
    return Rung(
        name=row["rung"],
        meaning=row["meaning"],
        choice=row["choice"],
        error=row["error"],
        loss=row["loss"],
        seconds=row["seconds"],
        in_float=tuple(row["in_float"]),
        metrics={name: value for name, value in row.items() if name not in RUNG},
    )


def read_operators(row: Mapping[str, Any]) -> Operators:
    """The typed form of a line of `operators`."""
    return Operators(row["operator"], row["count"], row["microseconds"])


def read_left(row: Mapping[str, Any]) -> Left:
    """The typed form of a line of `not_int8`."""
    return Left(row["name"], row["operator"], row["reason"])


def read_worth(row: Mapping[str, Any]) -> Worth:
    """The typed form of `int8`."""
    interval = row["speedup_ci95"]
    return Worth(
        file=row["file"],
        over=row["over"],
        pays=bool(row["pays"]),
        speedup=row["speedup"],
        speedup_ci95=(float(interval[0]), float(interval[1])) if interval else None,
        said=row["said"],
        reasons=tuple(row["reasons"]),
    )
