"""A float network in, a quantized one out: prepare, calibrate, train, and keep the better of before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.data.dataset import Data
from compress.distillation.distill import method_for
from compress.distillation.losses.kl import kl
from compress.models.deployment import nominal_inputs
from compress.quantization.calibrate import calibrate, squared_error
from compress.quantization.prepare import prepare
from compress.quantization.stage import Quantize
from compress.quantization.train import QuantizationAware
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import to_torch
from compress.training.device import limited_threads
from compress.training.evaluate import evaluate
from compress.training.fit import fit
from compress.training.log import FitLog
from compress.training.memory_format import from_work
from compress.training.state import copy_of, restore

REHEARSAL_EXAMPLES = 8


@dataclass(frozen=True)
class Quantized:
    """A quantized network in evaluation mode on the CPU, and how it came about.

    `post_training` and `trained` are validation metrics before and after training (`trained` and `log` are None
    without training); `kept` names the one that the network is. Where a ladder was climbed, `rungs` has a row for each
    of its rungs; `ignore` names the modules that stay in float.
    """

    module: GraphModule
    kept: str
    post_training: dict[str, float]
    trained: dict[str, float] | None = None
    log: FitLog | None = None
    rungs: tuple[dict[str, Any], ...] = ()
    ignore: tuple[str, ...] = ()


def quantize(
    module: nn.Module, data: Data, task: Task, settings: Quantize | None = None, context: Context | None = None
) -> Quantized:
    """Quantize a float network, which is put into evaluation mode and otherwise left as it is.

    Activation ranges come from training examples. Training distils from the float network; its result is kept unless
    the merely calibrated network is better on validation data, or whatever it is with `keep: last`.

    Raises:
        UsageError: the settings do not fit the network or the task; and as `fit` does.
        StageError: the network cannot be traced, or training diverged.
    """
    settings, context = settings or Quantize(), context or Context()
    if settings.accuracy_drop is not None:
        from compress.quantization.climb import climb

        return climb(module, data, task, settings, context)
    examples = nominal_inputs(data, 2)
    module.to("cpu").eval()
    model = prepare(
        module,
        examples,
        symmetric=settings.symmetric,
        weight_bits=settings.bits,
        ignore=settings.ignore,
    )
    with limited_threads(context.threads):
        error = _divergence if task.distillation == "classes" else squared_error
        calibrate(model, calibration_batches(data, settings, context), settings.calibration, error)
    if context.rehearsal:
        data = data.head(REHEARSAL_EXAMPLES)
    before = evaluate(model, data, task, data.validation, context=context)
    if not settings.epochs:
        return Quantized(model.to("cpu"), "post_training", before, ignore=settings.ignore)
    calibrated = copy_of(model)
    log = train(model, module, data, task, settings=settings, context=context)
    after = evaluate(model, data, task, data.validation, context=context)
    model.to("cpu")
    kept = "trained" if settings.keep == "last" or _as_good(after, before, task) else "post_training"
    if kept == "post_training":
        restore(model, {name: tensor.cpu() for name, tensor in calibrated.items()})
    return Quantized(model, kept, before, after, log, ignore=settings.ignore)


def calibration_batches(data: Data, settings: Quantize, context: Context) -> Callable[[], Iterator[tuple[Tensor, ...]]]:
    """A seeded choice of training examples, un-augmented, in batches of the training's size.

    Texts stand in order of length, so that there is little padding among what ranges are taken from.
    """
    count = min(len(data.train), settings.calibration_examples)
    chosen = np.sort(np.random.default_rng(context.seed).permutation(len(data.train))[:count])
    if context.rehearsal:
        chosen = chosen[:REHEARSAL_EXAMPLES]
    lengths = data.lengths(data.train)
    if lengths is not None:
        chosen = chosen[np.argsort(lengths[chosen], kind="stable")]

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, len(chosen), settings.batch_size):
            yield to_torch(data.batch(data.train, chosen[start : start + settings.batch_size]), CPU).inputs

    return batches


CPU = torch.device("cpu")


def train(
    model: GraphModule, teacher: nn.Module, data: Data, task: Task, *, settings: Quantize, context: Context
) -> FitLog:
    """Train a calibrated network in place, with the float network as the teacher."""
    try:
        inner = method_for(model, teacher, data, task, settings, settings.losses, context, inside=False)
        method = QuantizationAware(inner, freeze_norms=settings.freeze_batch_norm)
        return fit(model, data, task, method, settings, context=context)
    finally:
        from_work(teacher, CPU)


def _divergence(quantized: Tensor, reference: Tensor) -> Tensor:
    """Of the quantized network's classes from the float one's; (N, classes), or (N, T, classes) of tokens."""
    rows = (-1, quantized.shape[-1]) if quantized.dim() == 3 else quantized.shape
    return kl(quantized.reshape(rows), reference.reshape(rows), temperature=1.0)


def _as_good(after: dict[str, float], before: dict[str, float], task: Task) -> bool:
    better = after[task.metric] >= before[task.metric]
    return better if task.higher_is_better else after[task.metric] <= before[task.metric]
