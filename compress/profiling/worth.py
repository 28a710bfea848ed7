"""Whether int8 pays: an int8 file is chosen over float ones only where it is faster beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compress.profiling.conditions import STEADY
from compress.profiling.statistics import LEAST_ROUNDS, UNKNOWN, Ratio, ratio_interval


@dataclass(frozen=True)
class Timed:
    """A file as a choice by time sees it; `rounds_ms` are the calls of each round, interleaved with other files'.

    `is_int8` says whether it computes with integers, `precision` which its weights are: `int8` or `int4`; `noise` by
    how much one file measured twice beside it differed from itself (A/A), as a fraction.
    """

    name: str
    is_int8: bool
    p50_ms: float
    rounds_ms: Sequence[Sequence[float]] = field(default=(), repr=False)
    precision: str = "int8"
    noise: float = 0.0


@dataclass(frozen=True)
class Worth:
    """Whether an int8 file pays beside the best float file, in words: `said` is the finding, `reasons` say why.

    `speedup` is p50 of `over` over p50 of `file`; `is_told` says whether it is of rounds enough to tell its interval.
    """

    file: str
    over: str
    pays: bool
    speedup: Ratio
    said: str
    reasons: tuple[str, ...]
    is_told: bool = True

    def as_json(self) -> dict[str, Any]:
        """Plain data, for `report.json`; an interval of too few rounds is null."""
        return {
            "file": self.file,
            "over": self.over,
            "pays": self.pays,
            "speedup": self.speedup.value,
            "speedup_ci95": [self.speedup.low, self.speedup.high] if self.is_told else None,
            "said": self.said,
            "reasons": list(self.reasons),
        }


def gain(file: Timed, over: Timed) -> Ratio:
    """How many times faster `file` is than `over`, with its 95 % interval: 0 to infinity without common rounds.

    Of two to four rounds it is Student's at 99 % (`statistics.median_interval`), which is wide enough to choose by; how
    often it covers was not tried, so that no report tells it. On a machine that was not steady (A/A beyond 5 %) the
    interval is as much wider: what differs by no more than a file from itself gets no verdict.
    """
    first, second = ([np.asarray(calls) for calls in timed.rounds_ms] for timed in (over, file))
    paired = len(first) == len(second) and len(first) > 1
    low, high = ratio_interval(first, second) if paired else UNKNOWN
    noise = max(file.noise, over.noise)
    wider = 1 + noise if noise > STEADY else 1.0
    return Ratio(over.p50_ms / file.p50_ms, low / wider, high * wider)


def fastest(files: Sequence[Timed]) -> Timed:
    """The least p50; but int8 only if it is faster beyond chance than the best float file, where there is one."""
    floats = [file for file in files if not file.is_int8]
    quick = min(files, key=lambda file: file.p50_ms)
    if not quick.is_int8 or not floats:
        return quick
    best = min(floats, key=lambda file: file.p50_ms)
    return quick if gain(quick, best).low > 1 else best


def worth(file: Timed, over: Timed, *, missed: str = "", needed: str = "", costs: Sequence[str] = ()) -> Worth:
    """What to say of the int8 `file` beside the best float file, `over`.

    `missed` says what of the budget the int8 file does not keep (empty: it keeps all); `needed` why it is deployed
    even so, or though it is not faster (empty: it is not); `costs` what takes its time.
    """
    speedup = gain(file, over)
    faster = speedup.low > 1
    known = min(len(file.rounds_ms), len(over.rounds_ms)) >= LEAST_ROUNDS
    ends = f" ({speedup.low:.2f} to {speedup.high:.2f})" if known else ""
    if missed:
        said = f"no int8 file is within the budget: {file.name} {missed}"
        speed = f"it would be {speedup.value:.2f}x faster than {over.name}{ends}" if faster else ""
    elif faster:
        said = f"{file.precision} pays here: {file.name} is {speedup.value:.2f}x faster than {over.name}{ends}"
        speed = ""
    else:
        said = (
            f"{file.precision} does not pay here: {file.name} runs at {speedup.value:.2f}x of {over.name}'s speed{ends}"
        )
        chance = (
            "this may be chance: the interval holds 1, and a difference within noise does not decide for int8"
            if known
            else f"this may be chance: it takes {LEAST_ROUNDS} rounds of both to tell"
        )
        speed = chance if speedup.value > 1 else ""
    reasons = [*filter(None, (needed, speed)), *(() if faster else costs)]
    return Worth(file.name, over.name, faster and not missed, speedup, said, tuple(reasons), known)
