"""Columns of Arrow tables -> splits: images, texts, lists, numbers as inputs; classes, numbers and lists as targets.

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
    columns_of,
    is_list,
    is_number,
    is_picture,
    is_text,
    no_column,
    number,
    numbers,
    picture,
)
from compress.data.classes import class_numbers
from compress.data.decoded import Decoded
from compress.data.multi_label import Labels, multi_label
from compress.data.split_names import UNLABELLED
from compress.data.splits import Indices, Opened, Split, no_classes, target_array
from compress.data.text_settings import TextSettings
from compress.data.text_split import text_splits
from compress.errors import UsageError

Array = npt.NDArray[Any]
Columns = str | tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What to read of a table: columns, names of classes, where files lie that a column names, what texts are for."""

    input: Columns
    target: Columns | None
    labels: tuple[str, ...] | None = None
    folder: Path | None = None
    text: TextSettings | None = None


@dataclass(frozen=True)
class ColumnSplit:
    """Examples in Arrow columns (`pyarrow.ChunkedArray`).

    `inputs` and `outputs` hold one column, or several of numbers that make a vector; no `outputs`: nothing is known.
    `classes` are class numbers that stand for a column of names, or N x classes for lists of them; `what` names the
    input, for messages.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    classes: Array | None
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
        if not self.outputs:
            return no_classes(len(chosen))
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
    targets = None if wanted.text is not None and wanted.text.targets == "text" else wanted.target
    known = {name: table for name, table in tables.items() if name != UNLABELLED}
    outputs = {name: _pick(table, targets, name) for name, table in known.items()} if targets else {}
    names = _label_names(next(iter(tables.values())).schema, targets) if targets else None
    classes, found = _classes(outputs, wanted.labels, names)
    names = wanted.labels or found or names
    if wanted.text is not None:
        known_targets = {name: ColumnSplit(o, o, classes.get(name), "texts") for name, o in outputs.items()}
        return Opened(text_splits(tables, wanted.input, wanted.target, wanted.text, known_targets), names)
    inputs = {name: _pick(table, wanted.input, name) for name, table in tables.items()}
    kinds = {is_picture(columns[0].type) for columns in inputs.values()}
    if len(kinds) > 1:
        raise UsageError(f"data: the input {wanted.input!r} holds images in some splits and numbers in others")
    splits: dict[str, Split] = {}
    for name, columns in inputs.items():
        what = f"input {wanted.input!r} of the {name} split"
        _require_files(columns[0], what, wanted.folder)
        split = ColumnSplit(columns, outputs.get(name, ()), classes.get(name), what, wanted.folder)
        splits[name] = Decoded(split, content[name]) if True in kinds else split
    return Opened(splits, names, images=True in kinds)


def _require_files(column: Any, what: str, folder: Path | None) -> None:
    """Strings that are no texts must name files: the first one says whether they do."""
    if not is_text(column.type) or not len(column):
        return
    first = column[0].as_py()
    try:
        if folder is not None and first and (folder / first).is_file():
            return
    except OSError:  # longer than a name may be
        pass
    sought = f"{folder / first if folder else first}"
    raise UsageError(
        f"data: {what} holds strings, and the first names no file ({sought[:80]}); if they are texts, add "
        "`text: {tokenizer: ...}`, if names of images, say where these lie as `folder:`"
    )


def _pick(table: pa.Table, names: Columns, split: str) -> tuple[Any, ...]:
    chosen = (names,) if isinstance(names, str) else names
    for name in chosen:
        if name not in table.column_names:
            raise no_column(name, f"the {split} split", columns_of(table.schema))
        kind = table.schema.field(name).type
        if len(chosen) > 1 and not is_number(kind):
            raise UsageError(f"data: columns that make a vector hold numbers; {name!r} holds {brief(kind)}")
        if not (is_number(kind) or is_list(kind) or is_picture(kind) or types.is_dictionary(kind)):
            raise UsageError(f"data: {name!r} holds {brief(kind)}; images, numbers, lists and class names are read")
    return tuple(table.column(name) for name in chosen)


def _classes(
    outputs: Mapping[str, tuple[Any, ...]], labels: Labels | None, stored: Labels | None
) -> tuple[Mapping[str, Array], Labels | None]:
    """Class numbers for targets that are names; N x classes for lists of names, or of numbers of named classes."""
    if not outputs or any(len(columns) > 1 for columns in outputs.values()):
        return {}, None
    if (lists := multi_label({split: column for split, (column,) in outputs.items()}, labels or stored)) is not None:
        return lists
    names: dict[str, Sequence[str]] = {}
    for split, (column,) in outputs.items():
        plain = column.cast(column.type.value_type) if types.is_dictionary(column.type) else column
        if is_text(plain.type):
            if plain.null_count:
                raise UsageError(f"data: {plain.null_count} targets of the {split} split are empty")
            names[split] = plain.to_pylist()
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
