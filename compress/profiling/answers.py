"""A model's answers over a whole split, from the deployed file, run by its runtime on its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.collate import IGNORED
from compress.data.dataset import Batch, Data, Split
from compress.errors import UsageError
from compress.stage import Progress, Silent
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings
from compress.tasks.batching import evaluation_batches, in_order
from compress.tasks.task import Task
from compress.tasks.tokens import joined

CHUNK_BYTES = 64 * 2**20
"""Inputs handed to the measuring program at a time: what bounds memory and disk, whatever the split's size."""
_SILENT = Silent()


def answers(
    file: Path,
    data: Data,
    split: Split,
    target: TargetSettings,
    *,
    task: Task | None = None,
    progress: Progress = _SILENT,
    chunk_bytes: int = CHUNK_BYTES,
    names: Sequence[str] = (),
) -> NDArray[Any]:
    """The first output of an ONNX file for each example of a split, in its order: (examples, ...).

    Of a task that answers tokens, what it condenses (`compress.tasks.tokens`): the measuring program does that itself,
    so that no logits are written down. Texts are run in order of length. `names` are what the file calls its inputs, in
    the data's order; by default as the data do.

    Raises:
        UsageError: The file is missing or cannot be loaded, or the split is empty.
        StageError: The model fails when it is run.
    """
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    found = []
    batches = evaluation_batches(data, split, target.answers_batch, task)
    with progress.task(f"evaluating on {target.name}", len(split)) as advance:
        for chunk in _chunks(data, split, batches, chunk_bytes):
            found.append(_answers_of(file, chunk, data, target, task, names or data.input_names, progress))
            advance(sum(len(batch.indices) for batch in chunk))
    if not found:
        raise UsageError("there is nothing to evaluate on: the split has no examples")
    return in_order(joined(found), batches)


def _chunks(data: Data, split: Split, batches: list[NDArray[np.int64]], chunk_bytes: int) -> Iterator[list[Batch]]:
    """Batches, about `chunk_bytes` of inputs at a time; those of one chunk have one size but for the last."""
    chunk: list[Batch] = []
    for indices in batches:
        batch = data.batch(split, indices)
        if chunk and not _may_follow(batch, chunk):
            yield chunk
            chunk = []
        chunk.append(batch)
        if sum(array.nbytes for each in chunk for array in each.inputs) >= chunk_bytes:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _may_follow(batch: Batch, chunk: list[Batch]) -> bool:
    return len(chunk[-1].indices) == len(chunk[0].indices) >= len(batch.indices)


def _answers_of(
    file: Path,
    chunk: list[Batch],
    data: Data,
    target: TargetSettings,
    task: Task | None,
    names: Sequence[str],
    progress: Progress,
) -> NDArray[Any]:
    """The answers for one chunk, by one run of the measuring program."""
    with tempfile.TemporaryDirectory(prefix="compress-answers-") as name:
        folder = Path(name)
        request: dict[str, Any] = {"output": str(folder / "output.npy"), "batch": len(chunk[0].indices)}
        columns = dict(zip(names, zip(*(batch.inputs for batch in chunk), strict=True), strict=True))
        request["inputs"] = {
            key: _saved(folder / f"input-{number}.npy", _padded(parts, 0))
            for number, (key, parts) in enumerate(columns.items())
        }
        if data.text is not None:
            request["lengths"] = {
                key: _saved(folder / f"lengths-{number}.npy", _widths(parts))
                for number, (key, parts) in enumerate(columns.items())
            }
        if task is not None and task.class_axis == -1:
            request["condense"] = "tokens"
            request["targets"] = _saved(
                folder / "targets.npy", _padded(tuple(batch.targets for batch in chunk), IGNORED)
            )
        run_jobs(target, {file.name: {"model": str(file), "answers": request}}, progress)
        result: NDArray[Any] = np.load(request["output"])
    return result


def _saved(path: Path, array: NDArray[Any]) -> str:
    np.save(path, array)
    return str(path)


def _padded(parts: tuple[NDArray[Any], ...], fill: int) -> NDArray[Any]:
    """Arrays of several batches as one; where rows differ in length, filled up to the longest."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    result = np.full((sum(map(len, parts)), longest), fill, dtype=parts[0].dtype)
    start = 0
    for part in parts:
        result[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return result


def _widths(parts: tuple[NDArray[Any], ...]) -> NDArray[np.int64]:
    """How long the rows of each example's batch are."""
    return np.concatenate([np.full(len(part), part.shape[1]) for part in parts])
