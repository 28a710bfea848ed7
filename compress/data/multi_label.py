"""Lists of class names or numbers -> one column a class, 1 where an example is of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute, types

from compress.data.arrow_values import is_list, is_text
from compress.data.classes import class_numbers
from compress.errors import UsageError

Labels = tuple[str, ...]


def multi_label(
    columns: Mapping[str, Any], labels: Labels | None
) -> tuple[dict[str, npt.NDArray[np.float32]], Labels] | None:
    """N x classes float32 for each split, and the class names; None if the columns are no lists of names or classes.

    Lists of whole numbers are classes where `labels` names these, unless every list already has one 0 or 1 a label.

    Raises:
        UsageError: a missing list, a name that `labels` does not have, or a number beyond it.
    """
    if not all(is_list(column.type) for column in columns.values()):
        return None
    lists = {split: _plain(column) for split, column in columns.items()}
    kinds = [values.type for values, _ in lists.values()]
    names = all(is_text(kind) for kind in kinds)
    if not names and not (labels and all(map(types.is_integer, kinds)) and not _one_each(lists, len(labels))):
        return None
    for split, column in columns.items():
        if missing := column.null_count + lists[split][0].null_count:
            raise UsageError(f"data: {missing} targets of the {split} split are empty")
    found = {split: values.to_pylist() for split, (values, _) in lists.items()}
    numbers, order = class_numbers(found, labels, "the target column") if names else _numbered(found, labels or ())
    return {split: _ones(numbers[split], lists[split][1], len(order)) for split in columns}, order


def _numbered(found: Mapping[str, list[int]], labels: Labels) -> tuple[dict[str, npt.NDArray[np.int64]], Labels]:
    numbers = {split: np.array(values, dtype=np.int64) for split, values in found.items()}
    for values in numbers.values():
        if len(values) and not 0 <= values.min() <= values.max() < len(labels):
            classes = f"{values.min()} to {values.max()}"
            raise UsageError(f"data: targets are the classes {classes}; `labels` names 0 to {len(labels) - 1}")
    return numbers, labels


def _plain(column: Any) -> tuple[Any, npt.NDArray[np.int64]]:
    """(all values one after the other, the length of each list)."""
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy().astype(np.int64)
    values = compute.list_flatten(column)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values, lengths


def _one_each(lists: Mapping[str, tuple[Any, npt.NDArray[np.int64]]], count: int) -> bool:
    """Whether every list has one 0 or 1 for each class."""
    return all(
        bool((lengths == count).all()) and (not len(values) or set(values.unique().to_pylist()) <= {0, 1})
        for values, lengths in lists.values()
    )


def _ones(numbers: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    found = np.zeros((len(lengths), classes), dtype=np.float32)
    found[np.repeat(np.arange(len(lengths)), lengths), numbers] = 1
    return found
