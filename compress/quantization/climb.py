"""The ladder for a network of PyTorch: first without training on its float ONNX graph, then trained, then less int8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.bundle import Deployment
from compress.data.dataset import Data
from compress.exporting.torch_onnx import example_inputs
from compress.models.build import deployment_for
from compress.models.deployment import nominal_inputs
from compress.quantization.exchange import Link, link
from compress.quantization.ladder import Ladder, Options, Quantization, Rung
from compress.quantization.observe import Feeds, Watching
from compress.quantization.outputs import OutputError, divergence, relative_error, runnable
from compress.quantization.prepare import prepare
from compress.quantization.quantize import Quantized, calibration_batches, train
from compress.quantization.stage import Quantize
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.evaluate import evaluate
from compress.training.log import FitLog

REHEARSED = ("static", "trained")
"""Rungs that a rehearsal climbs: what can fail for a reason that a user can mend."""
REHEARSAL_EXAMPLES = 8


class OnnxModule(nn.Module):
    """An ONNX graph that is called as a network is: tensors in order, its first output."""

    def __init__(self, proto: ModelProto, inputs: list[str], threads: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.watching = Watching(proto, [proto.graph.output[0].name], threads)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The first output, on the CPU."""
        feeds = {name: tensor.cpu().numpy() for name, tensor in zip(self.inputs, tensors, strict=True)}
        (found,) = self.watching(feeds).values()
        return torch.from_numpy(np.ascontiguousarray(found))


def climb(module: nn.Module, data: Data, task: Task, settings: Quantize, context: Context) -> Quantized:
    """As `quantize`, by the ladder: no further up than `accuracy_drop` asks, the best rung if none keeps it."""
    return _Climb(module, data, task, settings, context).result()


class _Climb:
    """One network on its way up."""

    def __init__(self, module: nn.Module, data: Data, task: Task, settings: Quantize, context: Context) -> None:
        self.module, self.task, self.settings, self.context = module.to("cpu").eval(), task, settings, context
        self.batches = calibration_batches(data, settings, context)
        self.deployment: Deployment = deployment_for(module, data, task)
        self.data = data.head(REHEARSAL_EXAMPLES) if context.rehearsal else data
        self.examples = nominal_inputs(data, 2)
        self.log: FitLog | None = None
        self.linked = self._link(settings.ignore)
        self.reference = self._metric(self.linked.template.proto)

    def result(self) -> Quantized:
        """Climb, and bring what was found back into a network."""
        settings = self.settings
        assert settings.accuracy_drop is not None
        names = [name for name in settings.rungs if not self.context.rehearsal or name in REHEARSED]
        error = divergence if self.task.distillation == "classes" else relative_error
        options = Options(
            symmetric=settings.symmetric,
            weight_bits=settings.bits,
            method=settings.calibration,
            rungs=tuple(names),
            adaround_iterations=settings.adaround_iterations,
            threads=self.context.threads,
            seed=self.context.seed,
        )
        floating = self.linked.template.proto
        ladder = Ladder(
            self.linked.template,
            self._feeds,
            OutputError(floating, self._feeds, self.context.threads, error),
            options,
            self.context.progress,
            self._train if settings.epochs else None,
        )
        allowed = settings.accuracy_drop
        rungs = ladder.climb(self._loss, float("-inf") if self.context.rehearsal else allowed)
        chosen = min(rungs, key=lambda rung: (rung.loss > allowed, rung.loss))
        ignore = (*settings.ignore, *chosen.result.in_float)
        model = self._bring_back(chosen.result, ignore)
        first = next(rung for rung in rungs)
        after = next((self._metrics_of(rung) for rung in rungs if rung.name == "trained"), None)
        rows = tuple({**rung.row(), **self._metrics_of(rung)} for rung in rungs)
        return Quantized(model, chosen.name, self._metrics_of(first), after, self.log, rows, ignore)

    def _link(self, ignore: tuple[str, ...]) -> Link:
        settings = self.settings
        model = prepare(
            self.module, self.examples, symmetric=settings.symmetric, weight_bits=settings.bits, ignore=ignore
        )
        return link(model, self.deployment, example_inputs(self.deployment))

    def _bring_back(self, found: Quantization, ignore: tuple[str, ...]) -> GraphModule:
        linked = self._link(ignore)
        linked.apply(found)
        return linked.model

    def _feeds(self) -> Iterator[Feeds]:
        names = [spec.name for spec in self.deployment.inputs]
        for tensors in self.batches():
            yield dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True))

    def _evaluated(self, proto: ModelProto) -> dict[str, float]:
        names = [spec.name for spec in self.deployment.inputs]
        runs = OnnxModule(proto, names, self.context.threads)
        return evaluate(runs, self.data, self.task, self.data.validation)

    def _metric(self, proto: ModelProto) -> float:
        return float(self._evaluated(proto)[self.task.metric])

    def _loss(self, found: Quantization) -> float:
        value = self._metric(runnable(found.canonical))
        return self.reference - value if self.task.higher_is_better else value - self.reference

    def _metrics_of(self, rung: Rung) -> dict[str, Any]:
        sign = -1 if self.task.higher_is_better else 1
        return {self.task.metric: self.reference + sign * rung.loss}

    def _train(self, found: Sequence[Rung]) -> tuple[str, Quantization] | None:
        """Train from the grids of a rung below, but from weights that are not rounded.

        Batch norms learn from batches: a network that has them starts from what they were trained with, on the lowest
        rung; one without them from the best rung, outliers moved and all.
        """
        linked = self._link(self.settings.ignore)
        normed = any(layer.norm is not None for layer in linked.layers.values())
        start = found[0] if normed else min(found, key=lambda rung: rung.loss)
        linked.start_from(start.result)
        self.log = train(linked.model, self.module, self.data, self.task, settings=self.settings, context=self.context)
        linked.model.to("cpu")
        again = link(linked.model, self.deployment, example_inputs(self.deployment))
        return f"{self.settings.epochs} epochs", again.quantization()
