"""The `quantize` stage: calibrate a float network for int8, then train it as it will run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.distillation.settings import DistillationRecipe
from compress.stage import Context, Metrics, Stage

LEARNING_RATES = {"sgd": 0.002, "adamw": 0.0002}
WEIGHT_DECAY = 1e-5


class Quantize(DistillationRecipe, Stage):
    """Int8 weights and activations: ranges from training examples, then training that distils from the float model."""

    verb: ClassVar[str] = "quantize"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = Kind.QUANTIZED
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes"})
    trains: ClassVar[bool] = True

    epochs: int = Field(4, ge=0)
    """Passes over the training examples in int8; 0 only calibrates (post-training quantization)."""
    learning_rate: float | None = Field(None, gt=0)
    """Its peak. Unset: 0.0002 for adamw, 0.002 for sgd, a small part of what trained the float network."""
    weight_decay: float | None = Field(None, ge=0)
    """Unset: 1e-5; little, because training is short."""
    model: str | None = None
    """The model to quantize: a name from `models:` or a stage; unset: the model before this stage."""
    grid: Literal["auto", "affine", "symmetric"] = "auto"
    """Activations with a zero point (`affine`) or without (`symmetric`, what TensorRT needs); `auto` is affine."""
    weight_bits: Literal[7, 8] = 8
    """Bits of a weight; 7 for x86 processors without VNNI, whose int8 kernels saturate."""
    calibration: Literal["auto", "minmax", "mse", "percentile"] = "mse"
    """How activation ranges are chosen: all seen, least squared error, 99.99 % of values; `auto` tries all."""
    calibration_examples: int = Field(512, ge=1)
    """Training examples that activation ranges are taken from."""
    ignore: tuple[str, ...] = ()
    """Globs of module names (`head.*`) that stay in float; each must match a module."""

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up."""
        return LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay in force."""
        return WEIGHT_DECAY if self.weight_decay is None else self.weight_decay

    def references(self) -> dict[str, str | None]:
        """The model to quantize."""
        return {"source": self.model}

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        return [*(self.recipe_faults() if self.epochs else []), *self.loss_faults()]

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Quantize the source and write it with its canonical ONNX graph."""
        from compress.quantization.run import run_stage

        return run_stage(self, inputs["source"], out, context)
