"""The YAML reference of the README, written from the classes that read the YAML."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from compress.data.settings import DataSettings
from compress.models.settings import ModelSettings
from compress.pipeline import Pipeline
from compress.stages import STAGES
from compress.targets.settings import TargetSettings
from compress.tasks.settings import BUILTIN
from compress.training.settings import Recipe
from compress.validation import models_in

_PLAIN = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", Any: "anything"}
_BOUNDS = {"ge": "at least", "gt": "over", "le": "at most", "lt": "under", "min_length": "items: at least"}
_OPTIONAL = ("name", "targets", "task")
_HEADER = "| key | what it is | default | meaning |\n|---|---|---|---|"


def reference_markdown() -> str:
    """Tables of every key: the file, networks, stages, the recipe that stages share, data, task, targets."""
    shown: set[type[BaseModel]] = {Recipe, DataSettings, ModelSettings, TargetSettings}
    top = {name: field for name, field in Pipeline.model_fields.items() if name != "folder"}
    parts = [f"### The file\n\n{_table(top)}"]
    parts += _inner("", top, shown)
    parts += ["### A network: `models.<name>`", *_sections("models.<name>", ModelSettings, shown, heading=False)]
    parts.append("### Stages\n\nBeside its verb each may have `name:` and `from:`, the model or stage to go on from.")
    for verb, stage in STAGES.items():
        parts += _sections(verb, stage, shown)
    parts.append(f"#### Keys of a recipe\n\n{_first_line(Recipe)}\n\n{_table(Recipe.model_fields)}")
    parts += ["### Data: `data:` or a data file", *_sections("data", DataSettings, shown, heading=False)]
    tasks = [f"- `{name}`: {_first_line(task)}" for name, task in BUILTIN.items()]
    parts.append("\n".join(["### Tasks: `task:`\n", *tasks, "- `module:function` or `path/file.py:function`: your own."]))
    parts += ["### Hardware: an item of `targets:`, or a target file"]
    parts += _sections("targets[]", TargetSettings, shown, heading=False)
    return "\n\n".join(parts) + "\n"


def _sections(path: str, model: type[BaseModel], shown: set[type[BaseModel]], *, heading: bool = True) -> list[str]:
    """A table for `model`, which stands at `path`, and for every model inside it that has none yet."""
    shown.add(model)
    shared = Recipe.model_fields if issubclass(model, Recipe) and model is not Recipe else {}
    own = {key: field for key, field in model.model_fields.items() if not _same(field, shared.get(key))}
    text = ([f"#### `{path}`"] if heading else []) + [_first_line(model)]
    text += [_table(own)] if own else []
    text += ["Also the [keys of a recipe](#keys-of-a-recipe)."] if shared else []
    return ["\n\n".join(text), *_inner(path, own, shown)]


def _inner(path: str, fields: Mapping[str, FieldInfo], shown: set[type[BaseModel]]) -> list[str]:
    parts = []
    for key, field in fields.items():
        for model in models_in(field.annotation):
            if model not in shown and model not in STAGES.values() and model.__name__ not in ("Placed", "TaskSettings"):
                parts += _sections(f"{path}.{key}{'[]' * _is_list(field.annotation)}".lstrip("."), model, shown)
    return parts


def _same(field: FieldInfo, other: FieldInfo | None) -> bool:
    return other is not None and (field.default, field.description) == (other.default, other.description)


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = [
        f"| `{key}` | {_kind(field)} | {_default(key, field)} | {_cell(field.description or '')} |"
        for key, field in fields.items()
    ]
    return "\n".join([_HEADER, *rows])


def _kind(field: FieldInfo) -> str:
    """The type of a field in words, with its bounds."""
    words = _words(field.annotation)
    bounds = [
        f"{phrase} {getattr(item, name):g}"
        for item in field.metadata
        for name, phrase in _BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return _cell(", ".join([words, *bounds]))


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in arguments if part is not type(None)))
    if origin in (tuple, list):
        return f"list of {_words(arguments[0])}" if arguments[-1] in (..., arguments[0]) else "list"
    if hasattr(annotation, "__metadata__"):
        return _words(arguments[0])
    return "mapping"


def _is_list(annotation: Any) -> bool:
    return any(get_origin(part) in (tuple, list) for part in (annotation, *get_args(annotation)))


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "the file's or `local`" if key == "targets" else "**required**"
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined or default in ((), {}):
        return ""
    if isinstance(default, BaseModel):
        return f"`{default.name}`" if hasattr(default, "name") else ""
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _first_line(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def joined(lines: Iterable[str]) -> str:
    """Lines as one text."""
    return "\n".join(lines)
