"""What a machine was like while it measured, and what to tell the user of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

STEADY = 0.05
"""By how much a file may differ from itself (A/A), or clocks from themselves, before it is said, as a fraction."""
WARMER = 10.0
"""By how much the temperature may differ between rounds before it is said, in degrees Celsius."""

BUSY = 0.1
"""The part of its time that a process may wait for a processor which others have before it is said, as a fraction."""

Round = Mapping[str, Any]
"""Of one process: `file`, `threads`, and `before` and `after` as the measuring program's `conditions` gives them."""


def what_moved(rounds: Sequence[Round]) -> list[str]:
    """Sentences on clocks, heat and other programs, as far as the machine tells; none if all was steady and quiet.

    Clocks and temperatures are compared as they were after each process, when the processor had been at work.
    """
    after = [entry["after"] for entry in rounds]
    clocks = [mean(state["frequency_mhz"]) for state in after if state.get("frequency_mhz")]
    degrees = [state["temperature_c"] for state in after if state.get("temperature_c") is not None]
    found = []
    if clocks and max(clocks) > (1 + STEADY) * min(clocks):
        found.append(f"the processor's clock moved between {min(clocks):.0f} and {max(clocks):.0f} MHz while measuring")
    if degrees and max(degrees) - min(degrees) >= WARMER:
        found.append(f"the temperature moved between {min(degrees):.0f} and {max(degrees):.0f} °C while measuring")
    if slowed := _slowed(rounds):
        found.append(f"the processor was slowed down by heat or low voltage while measuring ({slowed})")
    found = [f"{said}: times of this run may not be those of another" for said in found]
    shares = waiting_shares(rounds)
    return [*found, was_busy(median(shares))] if shares and median(shares) > BUSY else found


def waiting_shares(rounds: Sequence[Round]) -> list[float]:
    """The part of its time that each process waited for a processor because others had it; those that tell it."""
    pairs = [(entry["before"], entry["after"]) for entry in rounds]
    return [
        (after["waited_s"] - before["waited_s"]) / (after["clock_s"] - before["clock_s"])
        for before, after in pairs
        if before.get("waited_s") is not None and after.get("waited_s") is not None
        if after["clock_s"] > before["clock_s"]
    ]


def was_busy(share: float) -> str:
    """What to tell of a machine on which a process waited for that part of its time."""
    return (
        f"other programs had the same processor cores for {share:.0%} of the time while measuring: times are longer "
        "than the files take, those of slow files most; measure again when the machine is quiet"
    )


def _slowed(rounds: Sequence[Round]) -> str:
    """How often, in words; empty if it was not or the machine does not tell."""
    now = sum(bool(entry["after"].get("throttled_now")) for entry in rounds)
    if now:
        return f"after {now} of {len(rounds)} processes"
    counts = [state.get("throttle_count") for entry in rounds for state in (entry["before"], entry["after"])]
    known = [count for count in counts if count is not None]
    times = known[-1] - known[0] if known else 0
    return f"{times} times" if times > 0 else ""
