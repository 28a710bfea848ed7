"""What `compress quantize` can be asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compress.bare.samples import Images
from compress.errors import UsageError
from compress.quantization import stage
from compress.quantization.ranges import CHOICES
from compress.suggest import unknown
from compress.targets.emissions import CALIBRATED_EMISSIONS, EMISSIONS, FLOAT_EMISSIONS, weight_bits_for
from compress.targets.settings import TargetSettings
from compress.targets.target import emissions

RUNGS = tuple(rung for rung in stage.RUNGS if rung != "trained")
"""A bare file cannot be trained."""
BUDGET = 0.01


@dataclass(frozen=True)
class Asked:
    """The settings of one call.

    `budget` is the greatest loss: of accuracy where samples have labels, of agreement with the float file's classes
    where they have none, of relative squared error where the outputs are no classes. `emit` are names of emissions
    (empty: those of the target); `shapes` sizes of dynamic axes besides the batch, for measuring.
    """

    emit: tuple[str, ...] = ()
    budget: float = BUDGET
    grid: str = "auto"
    weight_bits: int | None = None
    calibration: str = "auto"
    rungs: tuple[str, ...] = RUNGS
    ignore: tuple[str, ...] = ()
    adaround_iterations: int = 500
    shapes: Mapping[str, int] = field(default_factory=dict)
    images: Images = field(default_factory=Images)
    seed: int = 0

    def bits(self, names: Sequence[str]) -> int:
        """Bits of a weight: 7 where one of the files is for processors whose kernels saturate."""
        if self.weight_bits is not None:
            return self.weight_bits
        return weight_bits_for(names)


def emissions_of(asked: Asked, target: TargetSettings) -> list[str]:
    """The int8 files to write.

    Raises:
        UsageError: A setting has a value that it cannot have.
    """
    names = list(asked.emit) or [name for name in emissions(target) if name not in FLOAT_EMISSIONS]
    for what, given, known in (
        ("int8 emission", names, [name for name in EMISSIONS if name not in FLOAT_EMISSIONS]),
        ("rung", asked.rungs, RUNGS),
        ("calibration", [asked.calibration], ("auto", *CHOICES)),
        ("grid", [asked.grid], ("auto", "affine", "symmetric")),
    ):
        for name in given:
            if name not in known:
                raise UsageError(unknown(what, name, known))
    if not 0 <= asked.budget < math.inf:
        raise UsageError(f"--budget: the greatest loss is a fraction of 0 or more, not {asked.budget}")
    if asked.weight_bits not in (None, 7, 8):
        raise UsageError(f"--weight-bits: 7 or 8, not {asked.weight_bits}")
    if asked.adaround_iterations < 1:
        raise UsageError(f"adaround_iterations: 1 or more, not {asked.adaround_iterations}")
    if len(set(names)) < len(names):
        raise UsageError(f"--emit: {max(names, key=names.count)} is named twice")
    if "static" not in asked.rungs:
        raise UsageError("--rung: the ladder begins with static; name it too")
    if not names:
        raise UsageError(f"target {target.name}: no int8 file is made for it; name one, such as --emit ort-x86")
    if asked.grid == "affine" and "tensorrt" in names:
        raise UsageError("--grid affine: TensorRT has no zero points; leave out tensorrt or the grid")
    return names


def calibrated(names: Sequence[str]) -> list[str]:
    """Those of the files whose activations need ranges, and so the ladder."""
    return [name for name in names if name in CALIBRATED_EMISSIONS]


def is_symmetric(asked: Asked, names: Sequence[str]) -> bool:
    """Whether activations have no zero point: as TensorRT needs it, or as asked."""
    return asked.grid == "symmetric" or (asked.grid == "auto" and "tensorrt" in names)
