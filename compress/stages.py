"""The table of stages: YAML verb -> class. A new stage is one line here."""

from __future__ import annotations

from compress.distillation.stage import Distill
from compress.exporting.stage import Export
from compress.generation.stage import Generate
from compress.pruning.stage import Prune
from compress.quantization.stage import Quantize
from compress.stage import Stage
from compress.training.stage import Train

STAGES: dict[str, type[Stage]] = {
    "train": Train,
    "generate": Generate,
    "distill": Distill,
    "prune": Prune,
    "quantize": Quantize,
    "export": Export,
}
