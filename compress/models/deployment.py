"""The deployer's half of a network: names, types and axes of its inputs and outputs, and the tokenizer of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.bundle import Deployment, TensorSpec
from compress.data.blocks import blocks_of
from compress.data.dataset import Data
from compress.tasks.task import Task

TOKENIZER_FILE = "tokenizer.json"
SEQUENCE, TARGET_SEQUENCE = "sequence", "target_sequence"
"""The axis of tokens that a network reads, and of those that its decoder reads."""
LONGEST_NOMINAL = 128
"""Tokens of a text for which MACs are counted and latency is measured, unless texts are shorter or a target says so."""


def deployment_of(data: Data, task: Task, plain_task: dict[str, Any], output: Tensor) -> Deployment:
    """The deployment of a network that gave `output` for a batch of `data`, which `task` has prepared."""
    batch = data.batch(data.train, np.arange(1))
    inputs = tuple(
        TensorSpec(name, array.dtype.name, ("batch", *_axes(name, array.shape[1:], data)))
        for name, array in zip(data.input_names, batch.inputs, strict=True)
    )
    rest: tuple[int | str, ...] = tuple(output.shape[1:])
    if task.class_axis == -1:
        rest = (inputs[-1].shape[1], *rest[1:])
    found = Deployment(
        task=plain_task,
        inputs=inputs,
        outputs=(TensorSpec("output", "float32", ("batch", *rest)),),
        preprocessing=tuple(data.preprocessing),
        labels=data.labels,
    )
    return found if data.text is None else found.with_extra(**_text_extra(data))


def nominal_inputs(data: Data, count: int = 1, shapes: Mapping[str, int] | None = None) -> tuple[Tensor, ...]:
    """Inputs to count and trace with: the first training examples; texts as long as they are measured, unpadded.

    `shapes` are the sizes of axes for which a target says others.
    """
    batch = data.batch(data.train, np.arange(min(count, len(data.train))))
    if data.text is None:
        return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in batch.inputs)
    sizes = {**_sizes(data), **(shapes or {})}
    each = [(len(batch.indices), sizes[_axes(name, (0,), data)[0]]) for name in data.input_names]
    return tuple(
        (torch.ones if "mask" in name else torch.zeros)(shape, dtype=torch.int64)
        for name, shape in zip(data.input_names, each, strict=True)
    )


def write_tokenizer(data: Data, folder: Path) -> None:
    """Put `tokenizer.json` beside a model that reads texts; nothing beside others."""
    if data.text is not None:
        (folder / TOKENIZER_FILE).write_text(data.text.json, encoding="utf-8")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer of the bundle in `source`, if it has one, into another folder; bundles may lie in bundles."""
    found = sorted(source.rglob(TOKENIZER_FILE))
    if found:
        (folder / TOKENIZER_FILE).write_bytes(found[0].read_bytes())


def _axes(name: str, shape: tuple[int, ...], data: Data) -> tuple[Any, ...]:
    if data.text is None:
        return shape
    return (TARGET_SEQUENCE if name.startswith("decoder_") else SEQUENCE,)


def _sizes(data: Data) -> dict[str, int]:
    assert data.text is not None
    longest = {SEQUENCE: data.text.max_length, TARGET_SEQUENCE: data.text.target_max_length or data.text.max_length}
    used = {TARGET_SEQUENCE if name.startswith("decoder_") else SEQUENCE for name in data.input_names}
    return {axis: min(size, LONGEST_NOMINAL) for axis, size in longest.items() if axis in used}


def _text_extra(data: Data) -> dict[str, Any]:
    assert data.text is not None
    tokenizer = {
        "file": TOKENIZER_FILE,
        "max_length": data.text.max_length,
        "pad_id": data.text.pad_id,
        "mask_id": data.text.mask_id,
        "eos_id": data.text.end_id,
        "start_id": data.text.start_id,
        "beginning": [] if blocks_of(data.train) is not None else data.text.beginning,
        "prompt": data.text.prompt,
        "inputs": list(data.input_names),
    }
    return {"tokenizer": tokenizer, "sizes": _sizes(data)}
