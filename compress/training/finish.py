"""What every stage that trains does before and after: open, save, measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from compress.bundle import Bundle, Kind, write_bundle
from compress.data.dataset import Data
from compress.data.open import open_data
from compress.errors import UsageError
from compress.models import rest
from compress.models.count import count_macs, count_parameters, size_bytes
from compress.models.deployment import copy_tokenizer, nominal_inputs
from compress.models.transformers_sizes import resized
from compress.stage import Context, Metrics
from compress.tasks.open import open_task
from compress.tasks.task import Task
from compress.training.evaluate import evaluate
from compress.training.log import FitLog


@dataclass(frozen=True)
class Work:
    """A model taken from rest, with the data and the task that its stage names."""

    module: nn.Module
    data: Data
    task: Task


def open_training(source: Bundle, context: Context) -> Work:
    """The model, data and task of a stage that trains.

    Raises:
        UsageError: there are no data, or they cannot be read.
    """
    if context.data is None:
        raise UsageError("this stage trains, and the pipeline names no data: add `data:`")
    task = open_task(context.task)
    return Work(rest.load(source.path), task.prepare(open_data(context.data)), task)


def save_trained(module: nn.Module, source: Bundle, out: Path, context: Context) -> None:
    """Write `module`, made from `source`, as a bundle of its own into `out` (rank 0 only).

    The configuration of a `transformers` network is corrected, if its sizes have changed.
    """
    if context.is_main:
        rest.save(module, resized(rest.read_factory(source.path), module), out)
        write_bundle(out, Kind.TORCH, source.deployment)
        copy_tokenizer(source.path, out)


def measure_model(module: nn.Module, data: Data, task: Task, context: Context, *, keep_mode: bool = False) -> Metrics:
    """Validation metrics, parameters, MACs per example, and bytes of weights. With several processes all must call it.

    Args:
        module: measured as it is.
        data: its validation split is used; in a rehearsal two examples of it.
        task: says what right means.
        context: device, threads, processes.
        keep_mode: whether the caller has put the module into evaluation mode (exported graphs refuse `eval()`).
    """
    if context.rehearsal:
        data = data.head(2)
    home = next((p.device for p in module.parameters()), torch.device("cpu"))
    validation = evaluate(module, data, task, data.validation, context=context, keep_mode=keep_mode)
    metrics = {
        "validation": validation,
        "parameters": count_parameters(module),
        "macs": count_macs(module, nominal_inputs(data)),
        "size_bytes": size_bytes(module),
    }
    module.to(home)
    return metrics


def finish_training(work: Work, source: Bundle, out: Path, context: Context, log: FitLog) -> Metrics:
    """Save what was trained, measure it, and say what training did."""
    save_trained(work.module, source, out, context)
    return {**measure_model(work.module, work.data, work.task, context), "training": log.as_metrics()}
