"""Plain values: numbers, text, and tuples, lists and dictionaries of them, as JSON and back as they were."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


class NotPlainError(TypeError):
    """A value that is no plain data."""


def to_json(value: Any) -> Any:  # noqa: PLR0911 - a table of kinds
    """`value` as JSON, in which tuples, dtypes and the like are marked.

    Raises:
        NotPlainError: it is, or holds, something else.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):  # NumPy's too, which pruning libraries leave behind
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, tuple) and type(value) in (tuple, torch.Size):
        return {"tuple": [to_json(item) for item in value]}
    if type(value) is list:
        return [to_json(item) for item in value]
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if type(value) is dict:
        return {"dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
    raise NotPlainError(f"{type(value).__name__} is no plain data")


def from_json(value: Any) -> Any:
    """The inverse of `to_json`; a `torch.Size` comes back as a tuple."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(from_json(item) for item in content)
    if kind == "dtype":
        return getattr(torch, content)
    return {from_json(key): from_json(item) for key, item in content}


def alike(first: Any, second: Any, state: Collection[int] = ()) -> bool:  # noqa: PLR0911 - a table of kinds
    """Whether two values that are no plain data say the same, as far as can be told.

    Tensors are compared bit by bit, but for those whose `id` is in `state` (parameters and buffers, whose values are
    written elsewhere); functions by name, settings objects by their `to_dict`, collections item by item; other objects
    by their type, because what they hold came from the same constructor.
    """
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        if id(first) in state and id(second) in state:
            return True
        return first.shape == second.shape and first.dtype == second.dtype and bool(torch.equal(first, second))
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(alike(a, b, state) for a, b in zip(first, second, strict=True))
    if isinstance(first, dict):
        return list(first) == list(second) and all(alike(first[key], second[key], state) for key in first)
    if callable(first) and hasattr(first, "__qualname__"):
        return bool(first.__qualname__ == second.__qualname__)
    if hasattr(first, "to_dict"):
        return bool(first.to_dict() == second.to_dict())
    try:
        return bool(to_json(first) == to_json(second))
    except NotPlainError:
        return True
