"""The steps that measure. Not verbs that a user writes: the plan puts them behind everything that gives a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.bundle import Bundle, Kind
from compress.stage import Context, Metrics, Stage


class Evaluate(Stage):
    """What a model answers on the validation and test examples, and what the task's metrics say of it."""

    verb: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 4
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH, Kind.QUANTIZED, Kind.ONNX, Kind.ENGINE)}
    reads: ClassVar[frozenset[str]] = frozenset({"data", "target"})

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Keep the answers in `out`; agreement is with the answers of the input `reference`, where there is one."""
        from compress.profiling.evaluate import evaluate_bundle

        return evaluate_bundle(inputs["source"], inputs.get("reference"), out, context)


class Profile(Stage):
    """Latency, throughput, load time, memory and time by operator of all files on one target, side by side."""

    verb: ClassVar[str] = "profile"
    version: ClassVar[int] = 4
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {}
    reads: ClassVar[frozenset[str]] = frozenset({"target"})

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Each input is a file, named as its row in the report is."""
        from compress.profiling.bundles import profile_bundles

        return profile_bundles(inputs, out, context)
