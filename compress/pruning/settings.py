"""The settings of pruning itself, without the training that follows it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from compress.settings import Settings

Importance = Literal["taylor", "magnitude", "batch_norm", "hessian", "fpgm", "lamp", "activation", "random"]
LOOKING: tuple[Importance, ...] = ("taylor", "hessian", "activation")
"""Those that look at training examples, and anew when some channels are gone."""


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


class ReachSettings(Settings):
    """How fast the file shall be: a time, or a factor over an unpruned file of the same batch."""

    latency_p50_ms: float | None = Field(None, gt=0)
    """Median milliseconds of a call."""
    speedup: float | None = Field(None, gt=1)
    """How many times faster than the unpruned file of the same precision, or of that which `over` names."""
    over: Literal["fp32"] | None = None
    """`fp32`: `speedup` is over the unpruned float file, whatever `precision` says, so that what int8 gains on this
    target counts as well, and pruning has to find the rest only (where nothing is left to find, it says so at once)."""
    batch: int = Field(1, ge=1)
    """Examples in a call."""
    precision: Literal["fp32", "int8"] = "fp32"
    """As what file it is deployed: `int8` where `quantize` follows."""
    target: str | None = None
    """The name of one of the pipeline's targets; unset: the first."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.latency_p50_ms is None) == (self.speedup is None):
            raise ValueError("name exactly one of latency_p50_ms and speedup")
        if self.over is not None and self.speedup is None:
            raise ValueError("over: it says what `speedup` is over; leave it out with latency_p50_ms")
        return self


class Pruning(Settings):
    """What to remove and how much."""

    keep: Keep | None = None
    """How much to keep: one of `{macs: share}`, `{parameters: share}`, `{channels: share}`."""
    reach: ReachSettings | None = None
    """In place of `keep`: how fast the file shall be, such as `{speedup: 2}` or `{latency_p50_ms: 2.0, batch: 1}`."""
    depth: bool | None = None
    """Whether whole residual blocks and transformer layers may go, judged by the loss without them; unset: with `reach`
    they may, with `keep` not."""
    importance: Importance = "taylor"
    """What a channel is worth. From examples: `taylor` and `hessian` (change of the loss, to first and second order),
    `activation` (size of its answers). From weights: `magnitude` (their size), `lamp` (against larger ones),
    `batch_norm` (its scale), `fpgm` (how unlike the others it is). Or `random`, to compare with."""
    norm: Literal[1, 2] = 2
    """The norm that `magnitude` takes: 1 or 2."""
    rounds: int = Field(5, ge=1)
    """How often `taylor`, `hessian` and `activation` look anew on the way to the share: what is left matters more than
    it did."""
    candidates: int = Field(96, ge=1)
    """How many choices are judged, where a time is asked or blocks may go: that is taken after which, and some
    training, the network's answers differ least. 1: the first."""
    scope: Literal["global", "layer", "isomorphic"] = "global"
    """`global` compares the channels of all layers; `layer` takes the same share from each; `isomorphic` compares those
    of layers that are built alike, and takes the same share from each kind."""
    round_to: int = Field(8, ge=1)
    """Channels of a pruned layer are kept in multiples of this number (attention heads go whole)."""
    attention: Literal["heads", "head_width"] = "heads"
    """What of attention goes: whole `heads`, or channels of every head (`head_width`), as many in each."""
    minimum_share: float = Field(0.1, gt=0, le=1)
    """Least share of its channels that any layer keeps; never under one multiple of `round_to`."""
    uniform: bool = True
    """Whether the layers of a `transformers` network stay alike, each losing channels of its own but all as many, so
    that its configuration still describes it and `from_pretrained` loads it."""
    ignore: tuple[str, ...] = ()
    """Globs of module names (`layer1.*`) whose channels stay as they are; each must match a module."""
    reconstruct: bool = True
    """Whether the channels that stay take over, by least squares and before any training, what those that go did."""
    examples: int = Field(256, ge=1)
    """Training examples that importance, reconstruction and batch-norm statistics are estimated from."""

    @model_validator(mode="after")
    def _says_how_far(self) -> Self:
        if (self.keep is None) == (self.reach is None):
            raise ValueError("say how far: `keep: {macs: 0.5}` or `reach: {speedup: 2}`, one of them")
        return self

    @property
    def share(self) -> Keep:
        """How much to keep, where that is asked."""
        assert self.keep is not None
        return self.keep

    @property
    def drops_blocks(self) -> bool:
        """Whether blocks may go."""
        return self.reach is not None if self.depth is None else self.depth
