"""A model's answers over a whole split, from the deployed file, run by its runtime on its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.dataset import Data, Split
from compress.errors import UsageError
from compress.stage import Progress, Silent
from compress.targets.settings import TargetSettings
from compress.targets.target import run_jobs

CHUNK_BYTES = 64 * 2**20
"""Inputs handed to the measuring program at a time: what bounds memory and disk, whatever the split's size."""
_SILENT = Silent()


def answers(
    file: Path,
    data: Data,
    split: Split,
    target: TargetSettings,
    *,
    progress: Progress = _SILENT,
    chunk_bytes: int = CHUNK_BYTES,
) -> NDArray[Any]:
    """The first output of an ONNX file for each example of a split, in its order: (examples, ...).

    Raises:
        UsageError: The file is missing or cannot be loaded, or the split is empty.
        StageError: The model fails when it is run.
    """
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    found = []
    with progress.task(f"evaluating on {target.name}", len(split)) as advance:
        for chunk in _chunks(data, split, target.throughput_batch, chunk_bytes):
            found.append(_answers_of(file, dict(zip(data.input_names, chunk, strict=True)), target))
            advance(len(chunk[0]))
    if not found:
        raise UsageError("there is nothing to evaluate on: the split has no examples")
    return np.concatenate(found)


def _chunks(data: Data, split: Split, batch: int, chunk_bytes: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """The split's inputs as arrays of whole batches, about `chunk_bytes` each."""
    batches: list[tuple[NDArray[Any], ...]] = []
    for item in data.batches(split, batch):
        batches.append(item.inputs)
        if sum(array.nbytes for inputs in batches for array in inputs) >= chunk_bytes:
            yield tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))
            batches = []
    if batches:
        yield tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))


def _answers_of(file: Path, inputs: dict[str, NDArray[Any]], target: TargetSettings) -> NDArray[Any]:
    """The answers for one chunk, by one run of the measuring program."""
    with tempfile.TemporaryDirectory(prefix="compress-answers-") as name:
        folder = Path(name)
        paths = {key: str(folder / f"input-{index}.npy") for index, key in enumerate(inputs)}
        for key, array in inputs.items():
            np.save(paths[key], array)
        output = folder / "output.npy"
        request = {"inputs": paths, "output": str(output), "batch": target.throughput_batch}
        run_jobs(target, {file.name: {"model": str(file), "answers": request}})
        result: NDArray[Any] = np.load(output)
    return result
