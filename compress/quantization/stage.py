"""The `quantize` stage: calibrate a float network for int8, then train it as it will run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.distillation.settings import DistillationRecipe
from compress.stage import Context, Metrics, Stage
from compress.targets.emissions import weight_bits_for

Rung = Literal["static", "corrected", "smoothed", "adaround", "trained", "mixed"]
RUNGS: tuple[Rung, ...] = get_args(Rung)
LEARNING_RATES = {"sgd": 0.002, "adamw": 0.0002}
WEIGHT_DECAY = 1e-5


class Quantize(DistillationRecipe, Stage):
    """Int8 weights and activations: ranges from training examples, then training that distils from the float model."""

    verb: ClassVar[str] = "quantize"
    version: ClassVar[int] = 2
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
    keep: Literal["best", "last"] = "best"
    """What is best on validation data, of the epochs and the merely calibrated network (with `accuracy_drop`: of the
    rungs); or the `last` epoch, for validation data that the float network was trained on, which say little."""
    model: str | None = None
    """The model to quantize: a name from `models:` or a stage; unset: the model before this stage."""
    accuracy_drop: float | None = Field(None, ge=0)
    """Most of the metric to lose on validation data; `rungs` are climbed until it is kept. Unset: `epochs` say."""
    rungs: tuple[Rung, ...] = RUNGS
    """What may be tried to keep `accuracy_drop`, the cheapest first; `static` is always the first."""
    grid: Literal["auto", "affine", "symmetric"] = "auto"
    """Activations with a zero point (`affine`) or none (`symmetric`); `auto` is affine but for TensorRT."""
    weight_bits: Literal["auto", 7, 8] = "auto"
    """Bits of a weight; `auto` is 8, or 7 where a file is for x86 processors without VNNI, whose kernels saturate."""
    calibration: Literal["auto", "minmax", "mse", "percentile", "entropy"] = "mse"
    """How ranges are chosen: all seen, least squared error, 99.99 % of values (of a symmetric grid: 99.999 %), least
    divergence; `auto` tries all."""
    calibration_examples: int = Field(512, ge=1)
    """Training examples that activation ranges are taken from."""
    adaround_iterations: int = Field(500, ge=1)
    """Steps of learning to round, for each layer."""
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

    @property
    def symmetric(self) -> bool:
        """Whether activations have no zero point."""
        return self.grid == "symmetric"

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return 8 if self.weight_bits == "auto" else self.weight_bits

    def for_files(self, emissions: Collection[str]) -> Self:
        """With what is `auto` decided by the files that will be made of the network."""
        chosen: dict[str, object] = {}
        if self.grid == "auto":
            chosen["grid"] = "symmetric" if "tensorrt" in emissions else "affine"
        if self.weight_bits == "auto":
            chosen["weight_bits"] = weight_bits_for(emissions)
        return self.model_copy(update=chosen)

    def decided(self) -> str:
        """The grid and the bits of weights."""
        return f"{'symmetric' if self.symmetric else 'affine'} grid, weights of {self.bits} bits"

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        found = [*(self.recipe_faults() if self.epochs else []), *self.loss_faults()]
        order = [RUNGS.index(rung) for rung in self.rungs]
        if self.rungs[:1] != ("static",) or order != sorted(set(order)):
            found.append(("rungs", f"begin with static and keep the order, each once: {', '.join(RUNGS)}"))
        if self.accuracy_drop is None and self.rungs != RUNGS:
            found.append(("rungs", "they are climbed to keep an `accuracy_drop`: give one too"))
        return found

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Quantize the source and write it with its canonical ONNX graph."""
        from compress.quantization.run import run_stage

        return run_stage(self, inputs["source"], out, context)
