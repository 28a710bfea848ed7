"""The step that builds an engine. Not a verb that a user writes: the plan puts it before what TensorRT runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.bundle import Bundle, Kind
from compress.stage import Context, Metrics, Stage
from compress.targets.settings import TargetSettings


class Engine(Stage):
    """TensorRT's engine of an ONNX file, built on the target whose GPU it is for."""

    verb: ClassVar[str] = "engine"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.ONNX,)}
    gives: ClassVar[Kind | None] = Kind.ENGINE
    reads: ClassVar[frozenset[str]] = frozenset({"place"})

    batches: tuple[int, int, int]
    """The least batch size, the one to be fastest at, and the largest, in examples."""
    shapes: dict[str, int]
    """Sizes of dynamic axes but the batch at which it is to be fastest; smaller ones it takes too."""
    workspace_mib: int | None
    """The most memory of the GPU that one layer may work with, in MiB; null: all of it."""

    @classmethod
    def of(cls, target: TargetSettings) -> Engine:
        """The engine that what is measured on `target` takes: fastest at the smallest batch that is timed."""
        largest = max(*target.batches, *target.throughput_batches)
        batches = (1, min(target.batches), largest)
        return cls(batches=batches, shapes=dict(target.shapes), workspace_mib=target.workspace_mib)

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Write `engine.plan` and what it belongs to; in a rehearsal the target only reads the ONNX file."""
        from compress.targets.engines import build_bundle

        return build_bundle(self, inputs["source"], out, context)
