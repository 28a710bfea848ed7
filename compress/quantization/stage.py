"""The `quantize` stage: calibrate a float network for int8, then train it as it will run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.stage import Context, Metrics, Stage
from compress.training.settings import Recipe


class Quantize(Recipe, Stage):
    """Int8 weights and activations: ranges from training examples, then training that distils from the float model."""

    verb: ClassVar[str] = "quantize"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = Kind.QUANTIZED
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes"})
    trains: ClassVar[bool] = True

    epochs: int = Field(4, ge=0)
    """Passes over the training examples in int8; 0 only calibrates (post-training quantization)."""
    learning_rate: float = Field(0.002, gt=0)
    """Peak learning rate: about 1 % of what the float network was trained with."""
    weight_decay: float = Field(1e-5, ge=0)
    """Weight decay; little of it, because training is short."""
    model: str | None = None
    """Name of the model or stage to quantize; by default the model before this stage."""
    grid: Literal["auto", "affine", "symmetric"] = "auto"
    """Activations with a zero point (`affine`) or without (`symmetric`, what TensorRT needs); `auto` is affine."""
    weight_bits: Literal[7, 8] = 8
    """Bits of a weight; 7 for x86 processors without VNNI, whose int8 kernels saturate."""
    calibration: Literal["mse", "percentile", "minmax"] = "mse"
    """How the range of an activation is chosen: least squared error, 99.99 % of values, or everything seen."""
    calibration_examples: int = Field(512, ge=1)
    """Training examples that activation ranges are taken from."""
    ignore: tuple[str, ...] = ()
    """Globs of module names (`head.*`) that stay in float; each must match a module."""
    losses: tuple[dict[str, dict[str, Any]], ...] | None = None
    """Loss terms as in `distill`, with the float model as the teacher; by default the task's own."""

    def references(self) -> dict[str, str | None]:
        """The model to quantize."""
        return {"source": self.model}

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Quantize the source and write it with its canonical ONNX graph."""
        from compress.quantization.run import run_stage

        return run_stage(self, inputs["source"], out, context)
