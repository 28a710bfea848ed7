"""The settings of pruning itself, without the training that follows it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from compress.settings import Settings


class Keep(Settings):
    """How much to keep: exactly one share, over 0 and under 1."""

    macs: float | None = None
    """Share of the multiply-accumulates of one example to keep, reached within 5 % or one step of channels."""
    parameters: float | None = None
    """Share of the network's parameters to keep, reached within 5 % or one step of channels."""
    channels: float | None = None
    """Share of the channels to keep, counted over those that may be pruned (coupled layers count once)."""

    @field_validator("macs", "parameters", "channels")
    @classmethod
    def _is_share(cls, share: float | None) -> float | None:
        if share is not None and not 0 < share < 1:
            hint = "a share of 1 leaves nothing to prune" if share == 1 else "for instance 0.5 for half"
            raise ValueError(f"{share:g} is not a share to keep: it must be over 0 and under 1 ({hint})")
        return share

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        named = [name for name in ("macs", "parameters", "channels") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"name exactly one of macs, parameters, channels (found {' and '.join(named) or 'none'})")
        return self

    @property
    def measure(self) -> Literal["macs", "parameters", "channels"]:
        """What the share is of."""
        return "macs" if self.macs is not None else "parameters" if self.parameters is not None else "channels"

    @property
    def share(self) -> float:
        """The share, over 0 and under 1."""
        return float(getattr(self, self.measure))


class Pruning(Settings):
    """What to remove and how much."""

    keep: Keep
    """How much to keep: one of `{macs: share}`, `{parameters: share}`, `{channels: share}`."""
    importance: Literal["taylor", "magnitude"] = "taylor"
    """What a channel is worth: `taylor` (change of the loss, from examples) or `magnitude` (size of its weights)."""
    norm: Literal[1, 2] = 2
    """The norm that `magnitude` takes: 1 or 2."""
    rounds: int = Field(5, ge=1)
    """How often `taylor` looks anew on the way to the share: what is left matters more than it did."""
    scope: Literal["global", "layer"] = "global"
    """`global` compares the channels of all layers; `layer` takes the same share from each."""
    round_to: int = Field(8, ge=1)
    """Channels of a pruned layer are kept in multiples of this number (attention goes by whole heads)."""
    minimum_share: float = Field(0.1, gt=0, le=1)
    """Least share of its channels that any layer keeps; never under one multiple of `round_to`."""
    ignore: tuple[str, ...] = ()
    """Globs of module names (`layer1.*`) whose channels stay as they are; each must match a module."""
    examples: int = Field(256, ge=1)
    """Training examples that importance and batch-norm statistics are estimated from."""
