"""The YAML reference of the README, written from the classes that read the YAML."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from compress.data.settings import DataSettings
from compress.models.settings import ModelSettings
from compress.pipeline import Pipeline, Placed
from compress.stages import STAGES
from compress.targets.settings import TargetSettings
from compress.tasks.settings import BUILTIN, TaskSettings
from compress.training.settings import Recipe
from compress.validation import models_in

_PLAIN = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", Any: "anything"}
_BOUNDS = {"ge": "at least", "gt": "over", "le": "at most", "lt": "under"}
_BY_HAND = {"name": "the file's name", "targets": "`[local]`"}
"""Defaults at the top of the file that its class does not know."""
_HEADER = "| key | what it is | default | meaning |\n|---|---|---|---|"
_ELSEWHERE: set[type[BaseModel]] = {DataSettings, ModelSettings, TargetSettings, TaskSettings, Placed}


def reference_markdown() -> str:
    """Tables of every key: the file, networks, stages, the recipe that stages share, data, task, targets."""
    top = {name: field for name, field in Pipeline.model_fields.items() if name != "folder"}
    shown = set(_ELSEWHERE)
    tasks = [f"- `{name}`: {_first_line(task)}" for name, task in BUILTIN.items()]
    stages = [_section(f"#### Stage `{verb}`", stage, shown) for verb, stage in STAGES.items()]
    parts = [
        f"### The file\n\n{_table(_rows('', top, shown, _BY_HAND))}",
        _section("### A network: an entry of `models:`", ModelSettings, shown),
        "### Stages: an item of `stages:`\n\n"
        "Beside its verb each may have `name:` and `from:`, the model or stage to go on from.",
        *stages,
        _section("#### Keys of a recipe", Recipe, shown),
        _section("### Data: `data:` or the file that it names", DataSettings, shown),
        "\n".join(
            ["### What it is for: `task:`\n", *tasks, "- `module:function` or `path/file.py:function`: your own."]
        ),
        _section("### Hardware: an item of `targets:` or the file that it names", TargetSettings, shown),
    ]
    return "\n\n".join(parts) + "\n"


def _section(heading: str, model: type[BaseModel], shown: set[type[BaseModel]]) -> str:
    table = _table(_rows("", _own_fields(model), shown))
    return f"{heading}\n\n{_first_line(model)}\n\n{table}{_recipe_note(model)}"


def _own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that a model does not share with every recipe."""
    shared = Recipe.model_fields if issubclass(model, Recipe) and model is not Recipe else {}
    return {key: field for key, field in model.model_fields.items() if not _same(field, shared.get(key))}


def _recipe_note(model: type[BaseModel]) -> str:
    is_one = issubclass(model, Recipe) and model is not Recipe
    return "\n\nAnd the [keys of a recipe](#keys-of-a-recipe)." if is_one else ""


def _same(field: FieldInfo, other: FieldInfo | None) -> bool:
    return other is not None and (field.default, field.description) == (other.default, other.description)


def _rows(
    path: str,
    fields: Mapping[str, FieldInfo],
    shown: set[type[BaseModel]],
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """A row for each field, and below it those of the models inside that have none yet, with dotted keys."""
    rows = []
    for key, field in fields.items():
        here = f"{path}{field.alias or key}"
        default = defaults.get(key, _default(field))
        rows.append(f"| `{here}` | {_kind(field)} | {default} | {_cell(field.description or '')} |")
        below = f"{here}{'[]' if _is_list(field.annotation) else ''}."
        for model in models_in(field.annotation):
            if model not in shown:
                shown.add(model)
                rows += _rows(below, _own_fields(model), shown)
    return rows


def _table(rows: Sequence[str]) -> str:
    return "\n".join([_HEADER, *rows])


def _kind(field: FieldInfo) -> str:
    """The type of a field in words, with its bounds."""
    words = _words(field.annotation)
    bounds = [
        f"{phrase} {_number(getattr(item, name))}"
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


def _number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
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


BEGIN, END = "<!-- reference -->", "<!-- end of reference -->"
"""What the README's reference stands between; `python -m compress.reference README.md` writes it anew."""


def with_reference(text: str) -> str:
    """`text` with the reference after the first mark and before the second; ValueError if it lacks the first."""
    before, begin, rest = text.partition(BEGIN)
    if not begin:
        raise ValueError(f"there is no {BEGIN}")
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference_markdown()}\n{END}{after if end else rest}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_reference(file.read_text(encoding="utf-8")), encoding="utf-8")
