"""A float network in, a quantized one out: prepare, calibrate, train, and keep the better of before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.data.dataset import Data
from compress.distillation.distill import Distillation, chosen_losses
from compress.distillation.teacher import open_teacher
from compress.quantization.calibrate import calibrate
from compress.quantization.prepare import prepare
from compress.quantization.stage import Quantize
from compress.quantization.train import QuantizationAware
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import to_torch
from compress.training.device import limited_threads, training_device
from compress.training.evaluate import evaluate
from compress.training.fit import fit
from compress.training.log import FitLog
from compress.training.processes import broadcast_module


@dataclass(frozen=True)
class Quantized:
    """A quantized network in evaluation mode, and how it came about.

    `post_training` and `trained` are validation metrics before and after training (None without training); `kept`
    says which of the two the network is.
    """

    module: GraphModule
    post_training: dict[str, float]
    trained: dict[str, float] | None
    log: FitLog | None

    @property
    def kept(self) -> str:
        """Which weights these are."""
        return "post_training" if self.trained is None else "trained"


def quantize(
    module: nn.Module, data: Data, task: Task, settings: Quantize | None = None, context: Context | None = None
) -> Quantized:
    """Quantize a float network, which is left as it is.

    Raises:
        UsageError: the settings do not fit the network or the task; and as `fit` does.
        StageError: the network cannot be traced, or training diverged.
    """
    raise NotImplementedError
