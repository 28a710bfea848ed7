"""Which file to deploy: the fastest that meets the budget on validation data; then it is judged on test data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.profiling.worth import Timed, Worth, fastest, gain, worth


@dataclass(frozen=True)
class Candidate:
    """What the budget's lines are computed from, for one file on one target.

    `validation` and `test` are the primary metric; latencies in milliseconds at the smallest batch measured;
    `rounds_ms` the calls of each round, without which nothing can be said to be faster beyond chance; `noise` how far
    one file measured twice was from itself, as a fraction.
    """

    name: str
    validation: float
    test: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    size_bytes: int
    peak_memory_bytes: int | None
    is_int8: bool = False
    rounds_ms: Sequence[Sequence[float]] = field(default=(), repr=False)
    precision: str = "int8"
    noise: float = 0.0

    @property
    def timed(self) -> Timed:
        """What its choice by time needs."""
        return Timed(self.name, self.is_int8, self.p50_ms, self.rounds_ms, self.precision, self.noise)


@dataclass(frozen=True)
class Line:
    """One limit of the budget, the value found and whether it holds."""

    name: str
    limit: float
    value: float | None
    met: bool

    def as_json(self) -> dict[str, Any]:
        """Plain data, as `report.json` holds it."""
        return {"name": self.name, "limit": self.limit, "value": self.value, "met": self.met}


@dataclass(frozen=True)
class Verdict:
    """The file to deploy (None: none meets the budget), the budget's lines for it or the nearest file, and why."""

    deploy: str | None
    judged: str
    lines: tuple[Line, ...]
    reason: str

    @property
    def met(self) -> bool:
        """Whether a file meets the budget on test data."""
        return self.deploy is not None


AT_LEAST = frozenset({"speedup", "size_ratio"})


def values(candidate: Candidate, reference: Candidate, higher_is_better: bool, split: str) -> dict[str, float | None]:
    """The value of every budget line for a file, against the reference's float file on the same target.

    `accuracy_drop` is in the metric's own unit (0.01 is one point of accuracy); `metric_drop` is the share of the
    reference's metric that is lost, whatever its direction; negative drops are gains.
    """
    ours, theirs = getattr(candidate, split), getattr(reference, split)
    drop = theirs - ours if higher_is_better else ours - theirs
    return {
        "accuracy_drop": drop,
        "metric_drop": drop / abs(theirs) if theirs else (math.copysign(math.inf, drop) if drop else 0.0),
        "latency_p50_ms": candidate.p50_ms,
        "latency_p90_ms": candidate.p90_ms,
        "latency_p99_ms": candidate.p99_ms,
        "speedup": reference.p50_ms / candidate.p50_ms,
        "size_ratio": reference.size_bytes / candidate.size_bytes,
        "size_bytes": candidate.size_bytes,
        "peak_memory_bytes": candidate.peak_memory_bytes,
    }


def judge(
    candidate: Candidate, reference: Candidate, budget: dict[str, float], higher_is_better: bool, split: str
) -> tuple[Line, ...]:
    """The budget's lines for one file; a value that could not be measured does not meet its limit."""
    found = values(candidate, reference, higher_is_better, split)
    lines = []
    for name, limit in budget.items():
        value = found[name]
        met = value is not None and (value >= limit if name in AT_LEAST else value <= limit + _rounding(name))
        lines.append(Line(name, limit, value, met))
    return tuple(lines)


def _rounding(name: str) -> float:
    """Differences of fractions such as 0.9805 - 0.9705 carry an error of the last bits."""
    return 1e-9 if name.endswith("_drop") else 0.0


def decide(
    candidates: Sequence[Candidate], reference: Candidate, budget: dict[str, float], higher_is_better: bool
) -> Verdict:
    """Choose by validation data the fastest file that meets the budget, and judge that one on test data.

    An int8 file must be faster beyond chance than the best float file that meets the budget, where there is one. Test
    data never chooses: if the chosen file misses its budget there, nothing is deployed and the lines say by how much.
    Without a budget the fastest file is chosen whose metric is not worse than the reference's by more than one point
    (classification) or one percent of it.
    """
    limits = limits_of(budget, reference, higher_is_better)
    missed = {one.name: _missed(one, reference, limits, higher_is_better) for one in candidates}
    fewest = min(map(len, missed.values()))
    equals = [one for one in candidates if len(missed[one.name]) == fewest]
    nearest = _fastest(equals)
    lines = judge(nearest, reference, limits, higher_is_better, "test")
    shown = lines if budget else ()
    if budget:
        meets, wanted = "meets the budget", "the budget"
    else:
        meets, wanted = "stays within one point or percent of the reference", "one point or percent of the reference"
    if fewest:
        names = " and ".join(missed[nearest.name])
        reason = f"no file {meets} on validation data, which chooses; {nearest.name} is nearest, but misses {names}"
        return Verdict(None, nearest.name, shown, reason)
    if not all(line.met for line in lines):
        reason = f"{nearest.name} met {wanted} on validation data, which chose it, but not on test data"
        return Verdict(None, nearest.name, shown, reason)
    quick = min(equals, key=lambda one: one.p50_ms)
    unsure = "" if quick is nearest else f"; {quick.name}, in {quick.precision}, is not faster beyond chance"
    return Verdict(nearest.name, nearest.name, shown, f"the fastest file that {meets}{unsure}")


def limits_of(budget: dict[str, float], reference: Candidate, higher_is_better: bool) -> dict[str, float]:
    """The budget, or what stands in for one where none was set."""
    return budget or {("accuracy_drop" if higher_is_better and reference.validation <= 1 else "metric_drop"): 0.01}


def worth_of_int8(
    candidates: Sequence[Candidate],
    reference: Candidate,
    budget: dict[str, float],
    higher_is_better: bool,
    *,
    deploy: str | None,
    costs: Callable[[str, str], Sequence[str]],
) -> Worth | None:
    """Whether int8 pays: the deployed int8 file, or else the best, beside the best float file; None without either.

    `costs` says of an int8 and a float file by name what takes the time of the first. The best files are the fastest of
    those whose metric is within the budget on validation data.
    """
    limits = limits_of(budget, reference, higher_is_better)
    lost = {name: limit for name, limit in limits.items() if name.endswith("_drop")}

    def fewest_missed(files: Sequence[Candidate], limits: dict[str, float]) -> list[Candidate]:
        counts = [len(_missed(one, reference, limits, higher_is_better)) for one in files]
        return [one for one, count in zip(files, counts, strict=True) if count == min(counts)]

    int8, floats = ([one for one in candidates if one.is_int8 is wanted] for wanted in (True, False))
    if not int8 or not floats:
        return None
    file = next((one for one in int8 if one.name == deploy), None) or _fastest(
        fewest_missed(fewest_missed(int8, lost), limits)
    )
    over = _fastest(fewest_missed(floats, lost))
    missed = _missed(file, reference, lost, higher_is_better)
    needed = ""
    if file.name == deploy and gain(file.timed, over.timed).low <= 1:
        without = " and ".join(_missed(over, reference, limits, higher_is_better))
        needed = f"it is deployed for the rest of the budget, which no float file meets: {over.name} misses {without}"
    said = ""
    if missed:
        drop = values(file, reference, higher_is_better, "validation")[missed[0]]
        said = f"misses {missed[0]} on validation data, with {drop:.3g} where {lost[missed[0]]:.3g} is allowed"
    return worth(file.timed, over.timed, missed=said, needed=needed, costs=costs(file.name, over.name))


def _missed(candidate: Candidate, reference: Candidate, limits: dict[str, float], higher_is_better: bool) -> list[str]:
    """The limits that a file does not keep on validation data, by name."""
    return [line.name for line in judge(candidate, reference, limits, higher_is_better, "validation") if not line.met]


def _fastest(candidates: Sequence[Candidate]) -> Candidate:
    chosen = fastest([one.timed for one in candidates]).name
    return next(one for one in candidates if one.name == chosen)
