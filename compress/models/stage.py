"""The step that makes a network named under `models:`. Not a verb that a user writes: the plan puts it in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.bundle import Bundle, Kind
from compress.models.settings import ModelSettings
from compress.stage import Context, Metrics, Stage


class Build(Stage):
    """Make the network, fill it with its weights or seeded random ones, and check that it fits the data and task."""

    verb: ClassVar[str] = "build"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {}
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed"})

    name: str
    """The model's name under `models:`; it seeds the random weights together with the pipeline's seed."""
    model: ModelSettings
    """What to make."""

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Write the bundle; the record holds the network's parameters, MACs per example and size."""
        from compress.models.build import build_bundle

        return build_bundle(self, out, context)


class Derive(Stage):
    """Make a smaller network of another: some of its layers with their weights, or a narrower, shallower new one."""

    verb: ClassVar[str] = "derive"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed"})

    name: str
    """The model's name under `models:`; it seeds new weights together with the pipeline's seed."""
    smaller: ModelSettings
    """What to make."""

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Write the bundle; the record is that of `build`, with the layers that were copied."""
        from compress.models.derive import derive_bundle

        return derive_bundle(self, inputs["source"], out, context)


def seed_for(seed: int, name: str) -> int:
    """The seed of the random weights of the model called `name`, so that two models of one pipeline differ."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big")
