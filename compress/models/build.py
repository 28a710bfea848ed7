"""What the `build` step does: make a network, fill it, try it on two examples, write it down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.bundle import Deployment, Kind, write_bundle
from compress.data.dataset import Batch, Data
from compress.data.open import open_data
from compress.errors import Fault, UsageError
from compress.models import rest
from compress.models.count import count_macs, count_parameters
from compress.models.deployment import deployment_of, nominal_inputs, write_tokenizer
from compress.models.factory import Factory, build, factory_for, load_initial_weights
from compress.models.need import Need, TextNeed
from compress.models.stage import Build, seed_for
from compress.modes import evaluating
from compress.stage import Context, Metrics
from compress.tasks.open import open_task
from compress.tasks.task import Task
from compress.user_code import call


def build_bundle(stage: Build, out: Path, context: Context) -> Metrics:
    """Write the bundle of the network that `stage` names into `out`.

    Raises:
        UsageError: the network cannot be made or filled, or does not fit the data or the task.
    """
    if context.data is None:
        raise UsageError(f"models.{stage.name}: needs data, whose shapes the network must fit")
    data, task = open_data(context.data), open_task(context.task)
    faults = task.check(data)
    if faults:
        raise UsageError([Fault(fault, where="data") for fault in faults])
    try:
        return _build_bundle(stage, task.prepare(data), task, out, context)
    except UsageError as error:
        place = f"models.{stage.name}"
        raise UsageError([replace(fault, where=fault.where or place) for fault in error.faults]) from error


def _build_bundle(stage: Build, data: Data, task: Task, out: Path, context: Context) -> Metrics:
    factory = factory_for(stage.model, need_of(data, task))
    module = build(factory, seed_for(context.seed, stage.name))
    load_initial_weights(module, stage.model, factory)
    return write_network(module, factory, data, task, out, context)


def write_network(module: nn.Module, factory: Factory, data: Data, task: Task, out: Path, context: Context) -> Metrics:
    """Try a network on two examples and write it into `out` as a bundle; parameters, MACs per example and size.

    Raises:
        UsageError: the network does not fit the data or the task.
    """
    batch = data.batch(data.train, np.arange(min(2, len(data.train))))
    output = try_once(module, batch, data, task)
    rest.save(module, factory, out)
    write_bundle(out, Kind.TORCH, deployment_of(data, task, context.task.plain(), output))
    write_tokenizer(data, out)
    return {
        "parameters": count_parameters(module),
        "macs": count_macs(module, nominal_inputs(data)),
        "size_bytes": (out / rest.WEIGHTS_FILE).stat().st_size,
    }


def need_of(data: Data, task: Task) -> Need:
    """What a network for `data`, prepared by `task`, must take and give."""
    text = data.text
    if text is None:
        return Need(data.input_shapes, task.output_size(data), task.name, data.input_names)
    known = TextNeed(
        vocabulary_size=text.vocabulary_size,
        max_length=max(text.max_length, text.target_max_length or 0),
        pad_id=text.pad_id,
        bos_id=text.bos_id,
        eos_id=text.eos_id,
        start_id=text.start_id,
    )
    return Need((), task.output_size(data), task.name, data.input_names, known)


def try_once(module: nn.Module, batch: Batch, data: Data, task: Task) -> Tensor:
    """The network's output for a batch, in evaluation mode, if it fits the data and the task.

    Raises:
        UsageError: the network fails on the inputs, or its output has another type or shape than the task needs.
    """
    inputs = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in batch.inputs)
    given = ", ".join(str(tuple(x.shape)) for x in inputs)
    with evaluating(module), torch.no_grad():
        output = call(f"the network does not take inputs of shape {given}", module, *inputs)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = f"a tensor of {output.dtype}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UsageError(f"the network must give one tensor of floating-point numbers; it gives {kind}")
    expected = _expected_shape(batch, data, task)
    if not _fits(tuple(output.shape), expected, task):
        raise UsageError(
            f"the network gives {tuple(output.shape)} for inputs of shape {given}; the task {task.name} on these data "
            f"needs {expected}"
        )
    if not torch.isfinite(output).all():
        raise UsageError("the network gives nan or infinite numbers for the first examples: its weights may be broken")
    loss = call(f"the loss of the task {task.name}", task.loss, output, torch.from_numpy(np.asarray(batch.targets)))
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise UsageError(f"the loss of the task {task.name} must be a tensor with one number")
    return output


def _expected_shape(batch: Batch, data: Data, task: Task) -> tuple[int, ...]:
    size = task.output_size(data)
    examples = batch.targets.shape if task.class_axis == -1 else (len(batch.indices),)
    return (*examples, *((size,) if isinstance(size, int) else size))


def _fits(found: tuple[int, ...], expected: tuple[int, ...], task: Task) -> bool:
    """A vocabulary may have room for more tokens than the tokenizer has."""
    if task.class_axis == -1:
        return found[:-1] == expected[:-1] and found[-1] >= expected[-1]
    return found == expected


def deployment_for(module: nn.Module, data: Data, task: Task) -> Deployment:
    """How `module` is deployed: names, shapes and preprocessing, from data that the task has prepared.

    Raises:
        UsageError: network, data and task do not fit each other.
    """
    batch = data.batch(data.validation, np.arange(min(2, len(data.validation))))
    return deployment_of(data, task, {"name": task.name, "arguments": {}}, try_once(module, batch, data, task))
