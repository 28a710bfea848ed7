"""Columns of Arrow tables -> splits: images, lists and numbers as inputs; classes, numbers and lists as targets.

A column is read one value at a time through Arrow's own random access, so that a memory-mapped table stays on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from compress.data.arrow_values import (
    array_of,
    brief,
    is_list,
    is_number,
    is_picture,
    is_text,
    number,
    numbers,
    picture,
)
from compress.data.classes import class_numbers
from compress.data.dataset import Indices, Opened, Split, target_array
from compress.data.decoded import Decoded
from compress.errors import UsageError

Array = npt.NDArray[Any]
Columns = str | tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What to read of a table: columns, the user's names of classes, and where files lie that a column names."""

    input: Columns
    target: Columns
    labels: tuple[str, ...] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class ColumnSplit:
    """Examples in Arrow columns (`pyarrow.ChunkedArray`).

    `inputs` and `outputs` hold one column, or several of numbers that make a vector; `classes` are class numbers that
    stand for a column of names; `what` names the input, for messages.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    classes: npt.NDArray[np.int64] | None
    what: str
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def raw(self, indices: Indices) -> list[Array]:
        """Decoded images, arrays of lists, or vectors of numbers."""
        return [self._example(int(index)) for index in indices]

    def targets(self, indices: Indices) -> Array:
        """Class numbers, or numbers and arrays of lists."""
        chosen = np.asarray(indices, dtype=np.int64)
        if self._small_targets is not None:
            return target_array(self._small_targets[chosen])
        values = [array_of(self.outputs[0][int(index)], f"the target of row {index}") for index in chosen]
        shapes = sorted({value.shape for value in values})
        if len(shapes) > 1:
            raise UsageError(f"data: targets must all have one shape, found {', '.join(map(str, shapes[:5]))}")
        return target_array(np.stack(values))

    def _example(self, index: int) -> Array:
        what = f"row {index} of {self.what}"
        if len(self.inputs) > 1:
            return np.array([number(column[index], what) for column in self.inputs], dtype=np.float64)
        value = self.inputs[0][index]
        return picture(value, self.folder, what) if is_picture(value.type) else np.atleast_1d(array_of(value, what))

    @cached_property
    def _small_targets(self) -> Array | None:
        """Targets of one number or a few columns of numbers, kept in memory; None for lists."""
        if self.classes is not None:
            return self.classes
        if len(self.outputs) == 1 and is_list(self.outputs[0].type):
            return None
        columns = [numbers(column, "the target column") for column in self.outputs]
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1).astype(np.float64)


def open_columns(tables: Mapping[str, pa.Table], wanted: Wanted, content: Mapping[str, str]) -> Opened:
    """The splits in `tables`; images among them are decoded once into the cache, under the keys in `content`.

    Raises:
        UsageError: a column that is missing or holds what cannot be read; the message lists the columns and types.
    """
    inputs = {name: _pick(table, wanted.input, name) for name, table in tables.items()}
    outputs = {name: _pick(table, wanted.target, name) for name, table in tables.items()}
    classes, names = _classes(outputs, wanted.labels)
    names = wanted.labels or names or _label_names(next(iter(tables.values())).schema, wanted.target)
    kinds = {is_picture(columns[0].type) for columns in inputs.values()}
    if len(kinds) > 1:
        raise UsageError(f"data: the input {wanted.input!r} holds images in some splits and numbers in others")
    splits: dict[str, Split] = {}
    for name, columns in inputs.items():
        what = f"input {wanted.input!r} of the {name} split"
        split = ColumnSplit(columns, outputs[name], classes.get(name), what, wanted.folder)
        splits[name] = Decoded(split, content[name]) if True in kinds else split
    return Opened(splits, names, images=True in kinds)


def _pick(table: pa.Table, names: Columns, split: str) -> tuple[Any, ...]:
    chosen = (names,) if isinstance(names, str) else names
    for name in chosen:
        if name not in table.column_names:
            found = ", ".join(f"{field.name} ({brief(field.type)})" for field in table.schema)
            raise UsageError(f"data: the {split} split has no column {name!r}; it has {found}")
        kind = table.schema.field(name).type
        if len(chosen) > 1 and not is_number(kind):
            raise UsageError(f"data: columns that make a vector hold numbers; {name!r} holds {brief(kind)}")
        if not (is_number(kind) or is_list(kind) or is_picture(kind) or types.is_dictionary(kind)):
            raise UsageError(f"data: {name!r} holds {brief(kind)}; images, numbers, lists and class names are read")
    return tuple(table.column(name) for name in chosen)


def _classes(
    outputs: Mapping[str, tuple[Any, ...]], labels: tuple[str, ...] | None
) -> tuple[dict[str, npt.NDArray[np.int64]], tuple[str, ...] | None]:
    """Class numbers for targets that are names."""
    names: dict[str, Sequence[str]] = {}
    for split, columns in outputs.items():
        column = columns[0]
        if types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if len(columns) == 1 and is_text(column.type):
            if column.null_count:
                raise UsageError(f"data: {column.null_count} targets of the {split} split are empty")
            names[split] = column.to_pylist()
    if not names:
        return {}, None
    if names.keys() != outputs.keys():
        other = next(split for split in outputs if split not in names)
        raise UsageError(f"data: targets are class names in some splits, {brief(outputs[other][0].type)} in {other}")
    return class_numbers(names, labels, "the target column")


def _label_names(schema: pa.Schema, target: Columns) -> tuple[str, ...] | None:
    """Class names that Hugging Face keeps in a table's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[target]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names))
