"""What pruning to a time did, for the record and the report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Timing:
    """What pruning to a time did: milliseconds at the median, of files side by side on `target`.

    `floor_ms` is the fastest reachable; `predicted_ms` what the layers' table said of the choice before its file was
    measured; `layers` holds for each layer what it takes before and after by the table, 0 if its block is gone.
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
