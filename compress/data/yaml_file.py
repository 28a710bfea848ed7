"""Reading a YAML file with the line of every key, and telling pydantic's faults in words. Light at import."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from compress.errors import Fault, UsageError

Place = tuple[str | int, ...]


def read_yaml(path: Path) -> tuple[Any, dict[Place, int]]:
    """The plain data in a YAML file, and the line (from 1) of each key and item by its path.

    Raises:
        UsageError: the file cannot be read, is no YAML, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise UsageError(Fault(f"not YAML: {error.problem}", file=str(path), line=line)) from error
    lines: dict[Place, int] = {}
    for place, line in [] if node is None else _lines(node, ()):
        if place in lines:
            raise UsageError(Fault("this key is given twice", where=yaml_path(place), file=str(path), line=line))
        lines[place] = line
    return content, lines


def yaml_path(place: Place) -> str:
    """`stages[1].prune.keep` of ("stages", 1, "prune", "keep")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def faults_of(error: ValidationError, model: type[BaseModel], file: str, lines: Mapping[Place, int]) -> list[Fault]:
    """Each of pydantic's errors as a fault with its place and, for an unknown key, the nearest known one."""
    faults = []
    for item in error.errors():
        place = _known_place(tuple(item["loc"]), lines)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _keys(model, place[:-1])
            near = difflib.get_close_matches(str(place[-1]), known, n=1)
            message = "unknown key" + (f" (did you mean {near[0]!r}?)" if near else f"; known: {', '.join(known)}")
        elif item["type"] == "missing":
            message = "is missing"
        elif not isinstance(item["input"], dict | list) and item["type"] != "value_error":
            message = f"{message}, got {item['input']!r}"
        line = next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)
        faults.append(Fault(message, where=yaml_path(place), file=file, line=line))
    return faults


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, key.value)
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            inner = (*place, number)
            yield inner, value.start_mark.line + 1
            yield from _lines(value, inner)


def _known_place(place: Place, lines: Mapping[Place, int]) -> Place:
    """`place` without the names of union members that pydantic puts at its end."""
    if not lines:
        return tuple(part for part in place if isinstance(part, int) or part.isidentifier())
    end = next((end for end in range(len(place), 0, -1) if place[:end] in lines), 0)
    rest = place[end : end + 1]
    return place[:end] + tuple(part for part in rest if isinstance(part, str) and part.isidentifier())


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            inner = next(_models(model.model_fields[part].annotation), None)
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
