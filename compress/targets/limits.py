"""The limits that a file to deploy must keep to: a pipeline's for all targets, and each target's own."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from compress.settings import Settings

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(value: Any) -> Any:
    """A size in bytes from `1 MB` (a million), `1 MiB` (2**20) or a plain number, which is returned as it is."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?|)b?\s*", value.lower())
    if match is None:
        raise ValueError(f"must be a size such as 800 kB, 1 MB, 2 MiB or a number of bytes, not '{value}'")
    return round(float(match[1]) * _UNITS[match[2]])


_BYTES_SCHEMA = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]}
Bytes = Annotated[int, Field(gt=0), BeforeValidator(parse_bytes), WithJsonSchema(_BYTES_SCHEMA)]


class Budget(Settings):
    """What a file to deploy must keep to. Each limit is optional; the fastest file that meets all is chosen."""

    accuracy_drop: float | None = Field(None, ge=0, lt=1)
    """Most accuracy that may be lost against the reference, as a fraction: 0.01 is one point."""
    metric_drop: float | None = Field(None, ge=0)
    """Most of the task's primary metric that may be lost, as a share of the reference's: 0.02 is two percent of it."""
    latency_p50_ms: float | None = Field(None, gt=0)
    """Most milliseconds for one call, median."""
    latency_p90_ms: float | None = Field(None, gt=0)
    """Most milliseconds for nine calls of ten."""
    latency_p99_ms: float | None = Field(None, gt=0)
    """Most milliseconds for 99 calls of 100."""
    speedup: float | None = Field(None, gt=0)
    """Least factor by which the median call is faster than the reference's float file on the same target."""
    size_ratio: float | None = Field(None, gt=0)
    """Least factor by which the file is smaller than the reference's float file."""
    size_bytes: Bytes | None = None
    """Largest file: a number of bytes or a text such as 1 MB."""
    peak_memory_bytes: Bytes | None = None
    """Most memory over that of the empty process: a number of bytes or a text such as 64 MB."""

    def limits(self) -> dict[str, float]:
        """The limits that were given, by name."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}
