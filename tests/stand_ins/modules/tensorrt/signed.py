"""Holds what is called on the stand-in against the signatures of the real TensorRT's classes, 11.4's."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

SIGNATURES = json.loads((Path(__file__).parent / "signatures.json").read_text())
Class = TypeVar("Class", bound=type)


def signed(cls: Class) -> Class:
    """A stand-in class that can do nothing that the real one of that name cannot; its own attributes begin with `_`."""
    real = SIGNATURES[cls.__name__]
    attributes = {*real["settable"], *real["readable"]}
    for name, value in list(vars(cls).items()):
        made_by_user = name == "__init__" and name in real["methods"]
        if made_by_user or (callable(value) and not name.startswith("_") and not isinstance(value, type)):
            if name not in real["methods"]:
                raise TypeError(f"the real {cls.__name__} has no method {name}")
            setattr(cls, name, _held(cls.__name__, name, value, real["methods"][name]))
        elif isinstance(value, property) and name not in attributes:
            raise TypeError(f"the real {cls.__name__} has no attribute {name}")

    def set_attribute(self: Any, name: str, value: Any) -> None:
        ours = name.startswith("_") or type(self) is not cls  # whoever derives a class may add what they want
        if not ours and name not in real["settable"]:
            raise AttributeError(f"{cls.__name__}.{name} cannot be set")
        object.__setattr__(self, name, value)

    cls.__setattr__ = set_attribute  # type: ignore[assignment, method-assign]
    return cls


def members(name: str) -> Any:
    """An enumeration with the members of the real one."""
    return enum.Enum(name, SIGNATURES[name]["members"])


def _held(cls: str, name: str, function: Callable[..., Any], overloads: list[Any]) -> Callable[..., Any]:
    """`function`, called only with arguments that one of the real overloads takes."""

    @functools.wraps(function)
    def call(self: Any, *given: Any, **named: Any) -> Any:
        problems = [problem for overload in overloads if (problem := _problem(overload, given, named))]
        if len(problems) == len(overloads):
            raise TypeError(f"{cls}.{name}: {'; '.join(problems)}")
        return function(self, *given, **named)

    return call


def _problem(overload: list[Any], given: tuple[Any, ...], named: dict[str, Any]) -> str:
    """Why arguments do not suit an overload; nothing if they do."""
    if len(given) > len(overload):
        return f"takes {len(overload)} arguments, not {len(given)}"
    values = {overload[index][0]: value for index, value in enumerate(given)}
    known = {name for name, _, _ in overload}
    if wrong := [name for name in named if name not in known or name in values]:
        return f"takes no argument {wrong[0]}"
    values |= named
    for name, annotation, optional in overload:
        if name not in values and not optional:
            return f"needs the argument {name}"
        if name in values and not _suits(values[name], annotation):
            return f"{name} must be {annotation}, and not {type(values[name]).__name__}"
    return ""


def _suits(value: Any, annotation: str) -> bool:
    if annotation == "typing.SupportsInt":
        return hasattr(value, "__int__") and not isinstance(value, str)
    if annotation == "typing.SupportsFloat":
        return hasattr(value, "__float__")
    if annotation == "typing_extensions.Buffer":
        return isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "__buffer__")
    if annotation == "collections.abc.Sequence[typing.SupportsInt]":
        return isinstance(value, list | tuple) and all(hasattr(item, "__int__") for item in value)
    names = [base.__name__ for base in type(value).__mro__]
    return annotation in ("", "typing.Any", "...") or annotation in names
