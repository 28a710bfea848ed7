"""Single values of Arrow columns -> NumPy arrays, numbers and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from compress.data.pictures import decode
from compress.errors import UsageError

Array = npt.NDArray[Any]


def picture(value: Any, folder: Path | None, what: str) -> Array:
    """The pixels of an image given as bytes, as {bytes, path}, or as the name of a file in `folder`.

    Raises:
        UsageError: an empty value, a file that is missing, or bytes that are no image; `what` says where.
    """
    stored = (value.value if isinstance(value, pa.ExtensionScalar) else value).as_py()
    if isinstance(stored, dict):
        stored = stored["bytes"] if stored.get("bytes") is not None else stored.get("path")
    if not stored:
        raise UsageError(f"data: {what} is empty")
    if isinstance(stored, bytes):
        return decode(stored, what)
    if folder is None:
        raise UsageError(f"data: {what} names the image file {stored!r}; say where such files lie as `folder:`")
    return decode(folder / stored, f"{what} ({folder / stored})")


def array_of(value: Any, what: str) -> Array:
    """A number, or nested lists of numbers of equal lengths, as an array.

    Raises:
        UsageError: empty entries, unequal lengths, or values that are no numbers; `what` says where.
    """
    if isinstance(value, pa.ExtensionScalar):
        value = value.value
    if not value.is_valid:
        raise UsageError(f"data: {what} is empty")
    if not is_list(value.type):
        return np.asarray(number(value, what))
    inner = value.values
    shape = [len(inner)]
    while is_list(inner.type):
        lengths = {item.is_valid and len(item.values) for item in inner}
        if len(lengths) != 1 or False in lengths:
            raise UsageError(f"data: {what} holds lists of unequal lengths")
        inner = inner.flatten()
        shape.append(lengths.pop())
    if inner.null_count or not is_number(inner.type):
        raise UsageError(f"data: {what} holds lists with empty entries or with {brief(inner.type)} that are no numbers")
    return np.asarray(inner.to_numpy(zero_copy_only=False).reshape(shape))


def number(value: Any, what: str) -> Any:
    """A value as Python's bool, int or float."""
    if not value.is_valid:
        raise UsageError(f"data: {what} is empty")
    plain = value.as_py()
    return plain if isinstance(plain, bool | int | float) else float(plain)


def numbers(column: Any, what: str) -> Array:
    """A whole column of numbers."""
    if not is_number(column.type):
        raise UsageError(f"data: {what} holds {brief(column.type)}; class numbers or names, numbers, lists are read")
    if column.null_count:
        raise UsageError(f"data: {what} has {column.null_count} empty values")
    return np.asarray((column.cast(pa.float64()) if types.is_decimal(column.type) else column).to_numpy())


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers or truth values."""
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings."""
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, of any of Arrow's kinds."""
    kind = _storage(kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_picture(kind: pa.DataType) -> bool:
    """Whether values are bytes, {bytes, path} as Hugging Face stores images, or names of files."""
    kind = _storage(kind)
    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind) or is_text(kind)


def no_column(name: str, what: str, there: Iterable[tuple[str, Any]]) -> UsageError:
    """The error that `what` lacks the column `name`; it lists the columns and types that are there."""
    found = ", ".join(f"{column} ({brief(kind)})" for column, kind in there)
    return UsageError(f"data: {what} has no column {name!r}; it has {found}")


def columns_of(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Names and types."""
    return [(field.name, field.type) for field in schema]


def brief(kind: Any) -> str:
    """A type's name, cut short."""
    text = str(kind)
    return text if len(text) < 60 else f"{text[:57]}..."


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
