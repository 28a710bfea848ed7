"""Texts in Arrow columns, with class numbers, numbers or other texts as targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pyarrow import types

from compress.data.arrow_values import brief, columns_of, is_number, is_text, no_column
from compress.data.source_settings import Columns
from compress.data.split_names import UNLABELLED
from compress.data.splits import Array, Indices, Split, no_classes
from compress.data.text import Text
from compress.data.text_settings import TextSettings
from compress.errors import UsageError


@dataclass(frozen=True)
class TextSplit:
    """Examples whose inputs are texts, or pairs of texts, in columns of strings (`pyarrow.ChunkedArray`).

    `labelled` knows the targets that are no texts; `answers` and `reasons` are columns of those that are.
    """

    texts: tuple[Any, ...]
    labelled: Split | None = None
    answers: Any = None
    reasons: Any = None

    def __len__(self) -> int:
        return len(self.texts[0])

    def raw(self, indices: Indices) -> list[Text]:
        """The texts, or tuples of two."""
        columns = [_strings(column, indices) for column in self.texts]
        return cast(list[Text], columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)))

    def targets(self, indices: Indices) -> Array:
        """Class numbers or numbers; -1 where there are none, or where targets are texts."""
        return no_classes(len(indices)) if self.labelled is None else self.labelled.targets(indices)

    def target_texts(self, indices: Indices) -> list[str]:
        """What is to be said."""
        return self._said(self.answers, "target texts: add `text: {targets: text}`", indices)

    def rationales(self, indices: Indices) -> list[str]:
        """Why it is to be said."""
        return self._said(self.reasons, "rationales: name their column as `text: {rationale: ...}`", indices)

    @staticmethod
    def _said(column: Any, what: str, indices: Indices) -> list[str]:
        if column is None:
            raise UsageError(f"data: there are no {what}")
        return _strings(column, indices)


def text_splits(
    tables: Mapping[str, pa.Table],
    inputs: Columns,
    target: Columns | None,
    settings: TextSettings,
    labelled: Mapping[str, Split],
) -> dict[str, Split]:
    """The splits in `tables`.

    Args:
        tables: one for each split; that of unlabelled examples needs no targets.
        inputs: the column of texts, or the two of pairs.
        target: the column of texts to learn, where `settings` say that targets are texts.
        settings: what texts are for.
        labelled: knows the targets that are no texts, for each split that has such.

    Raises:
        UsageError: a column is missing or holds something else.
    """
    chosen = (inputs,) if isinstance(inputs, str) else inputs
    if len(chosen) > 2:
        raise UsageError(f"data: an input is one text or a pair of texts; {len(chosen)} columns are named")
    if settings.targets == "text" and not isinstance(target, str):
        raise UsageError("data: with `text: {targets: text}` name one column of texts as `target`")
    splits: dict[str, Split] = {}
    for name, table in tables.items():
        answers = reasons = None
        if settings.targets == "text" and name != UNLABELLED:
            answers = text_column(table, str(target), name, numbers=True)
            reasons = settings.rationale and text_column(table, settings.rationale, name, numbers=True)
        texts = tuple(text_column(table, column, name) for column in chosen)
        splits[name] = TextSplit(texts, labelled.get(name), answers, reasons)
    return splits


def text_column(table: pa.Table, name: str, split: str, *, numbers: bool = False) -> Any:
    """A column of strings; with `numbers` also one of numbers, which become strings.

    Raises:
        UsageError: the column is missing, has empty entries, or holds something else.
    """
    if name not in table.column_names:
        raise no_column(name, f"the {split} split", columns_of(table.schema))
    column = table.column(name)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_text(column.type):
        if not (numbers and is_number(column.type)):
            raise UsageError(f"data: with `text:` the column {name!r} must hold texts; it holds {brief(column.type)}")
        column = column.cast(pa.string())
    if column.null_count:
        raise UsageError(f"data: {column.null_count} texts of the column {name!r} of the {split} split are missing")
    return column


def _strings(column: Any, indices: Indices) -> list[str]:
    chosen = np.asarray(indices, dtype=np.int64)
    return list(column.take(pa.array(chosen)).to_pylist())
