"""How much a term of the loss counts, constant or changing while training goes on. Light at import."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from compress.settings import Settings


class Ramp(Settings):
    """A weight that goes from one value to another while training goes on."""

    first: float = Field(ge=0)
    """The weight until `begin`."""
    last: float = Field(ge=0)
    """The weight from `end` on."""
    begin: float = Field(0.0, ge=0, le=1)
    """Where it begins to change, as a share of all steps."""
    end: float = Field(1.0, ge=0, le=1)
    """Where it has arrived, as a share of all steps."""
    shape: Literal["linear", "cosine", "step"] = "linear"
    """`linear`, `cosine` (slow at both ends), or `step` (the last value at once, from `end` on)."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.begin:
            raise ValueError(f"end {self.end:g} lies before begin {self.begin:g}")
        return self


Weight = float | Ramp


def weight_at(weight: Weight, fraction: float) -> float:
    """The weight when `fraction` of all steps, in [0, 1], is done."""
    if not isinstance(weight, Ramp):
        return weight
    if fraction >= weight.end:
        return weight.last
    if fraction <= weight.begin or weight.shape == "step":
        return weight.first
    share = (fraction - weight.begin) / (weight.end - weight.begin)
    if weight.shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return weight.first + share * (weight.last - weight.first)


def is_nothing(weight: Weight) -> bool:
    """Whether the term never counts."""
    if not isinstance(weight, Ramp):
        return weight == 0
    return weight.last == 0 and (weight.first == 0 or weight.end == 0)
