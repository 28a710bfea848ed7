"""Which examples are evaluated together: neighbours in the split, or texts of about one length."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data, Split
from compress.tasks.task import Task

Indices = npt.NDArray[np.int64]
LOGITS_BYTES = 256 * 2**20
"""What the logits of a batch may take at most, unless one example alone takes more."""
_FLOAT_BYTES = 4


def evaluation_batches(data: Data, split: Split, batch_size: int, task: Task | None = None) -> list[Indices]:
    """Every example of a split once, in batches of at most `batch_size`.

    Texts come in order of length, so that little is padded, and fewer at a time where their logits would fill memory.
    Then the answers of all batches, one after the other, are put back by `in_order`.
    """
    lengths = data.lengths(split)
    if lengths is None:
        return [np.arange(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]
    order = np.argsort(lengths, kind="stable")
    if task is None or task.class_axis != -1:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return _within_memory(order, np.maximum(lengths[order], _answer_length(data)), batch_size, task.output_size(data))


def in_order(answers: npt.NDArray[Any], batches: list[Indices]) -> npt.NDArray[Any]:
    """Answers to all batches, one after the other, in the order of the split's examples."""
    order = np.concatenate(batches)
    if np.array_equal(order, np.arange(len(order))):
        return answers
    result = np.empty_like(answers)
    result[order] = answers
    return result


def _within_memory(order: Indices, lengths: Indices, batch_size: int, size: int | tuple[int, ...]) -> list[Indices]:
    """Batches of rising length whose logits, padded to the longest, are at most `LOGITS_BYTES`.

    Where they would take more, half as many come at a time, so that there are few different sizes.
    """
    row_bytes = lengths * int(np.prod(size)) * _FLOAT_BYTES
    batches, start = [], 0
    while start < len(order):
        while batch_size > 1 and batch_size * row_bytes[start : start + batch_size][-1] > LOGITS_BYTES:
            batch_size = -(-batch_size // 2)
        batches.append(order[start : start + batch_size])
        start += batch_size
    return batches


def _answer_length(data: Data) -> int:
    """How many tokens a decoder says at most, where the network has one."""
    assert data.text is not None
    decodes = any(name.startswith("decoder_") for name in data.input_names)
    return (data.text.target_max_length or data.text.max_length) if decodes else 0
