"""From pydantic's errors to faults in the user's words: place, line, what was expected, what stands there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from compress.errors import Fault, UsageError
from compress.suggest import did_you_mean, listed
from compress.yaml_source import Place, Source

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 60
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "too_short": ("min_length", "a list of at least {} items"),
    "too_long": ("max_length", "a list of at most {} items"),
    "string_too_short": ("min_length", "text of at least {} characters"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}


def validated(model: type[Model], raw: Any, source: Source, place: Place = ()) -> tuple[Model | None, list[Fault]]:
    """`raw`, which stands at `place` of `source`, as a `model`; None and every fault in it if it is none."""
    errors: list[Any] = []
    result = None
    base = Path(source.file).parent.resolve() if source.file else None
    try:
        result = model.model_validate(raw, context={"base": base})
    except ValidationError as error:
        errors += error.errors(include_url=False)
    except UsageError as error:
        return None, relocated(error, source, place)
    seen = {_inside(raw, error)[0] for error in errors}
    errors += [error for error in _loose(model, raw, base) if _inside(raw, error)[0] not in seen]
    return (None, faults_of(errors, model, raw, source, place)) if errors else (result, [])


def checked(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Keyword arguments as a `model`.

    Raises:
        UsageError: some are wrong; it lists all of them.
    """
    result, faults = validated(model, dict(given), Source(dict(given)))
    if result is None or faults:
        raise UsageError(faults)
    return result


def _loose(model: type[BaseModel], raw: Any, base: Path | None) -> list[Any]:
    """What pydantic let pass as a number or boolean but is none: `epochs: true`, `epochs: "3"`, `nesterov: 1`."""
    try:
        model.model_validate_json(json.dumps(raw), strict=True, context={"base": base})
    except ValidationError as error:
        return [e for e in error.errors(include_url=False) if e["type"] in ("int_type", "float_type", "bool_type")]
    except UsageError:
        pass  # the validation of the data itself said so
    return []


def relocated(error: UsageError, source: Source, place: Place) -> list[Fault]:
    """The faults that reading the value at `place` raised; those that name no other file get its place and line."""
    return [fault if fault.file else _placed(fault, source, place) for fault in error.faults]


def _placed(fault: Fault, source: Source, place: Place) -> Fault:
    parts = [part for part in re.split(r"[\[\].]+", fault.where) if part]
    return source.fault((*place, *(int(part) if part.isdigit() else part for part in parts)), fault.message)


def faults_of(
    errors: Sequence[Mapping[str, Any]], model: type[BaseModel], raw: Any, source: Source, place: Place
) -> list[Fault]:
    """One fault for each place in which pydantic found something; the alternatives of a union become one sentence."""
    found: dict[Place, list[_Finding]] = {}
    for error in errors:
        inside, value = _inside(raw, error)
        found.setdefault(inside, []).append(_finding(error, value, model, inside))
    faults = []
    for inside, findings in found.items():
        if messages := dict.fromkeys(finding.message for finding in findings if finding.message):
            faults.append(source.fault((*place, *inside), "; ".join(messages)))
        elif not any(len(other) > len(inside) and other[: len(inside)] == inside for other in found):
            expected = dict.fromkeys(finding.expected for finding in findings)
            text = f"must be {' or '.join(expected)}, not {shown(findings[0].value)}{findings[0].hint}"
            faults.append(source.fault((*place, *inside), text))
    return faults


@dataclass(frozen=True)
class _Finding:
    """One pydantic error: what was expected where `value` stands, or a message of its own."""

    value: Any
    expected: str = ""
    hint: str = ""
    message: str = ""


def _finding(  # noqa: PLR0911 - a table of cases
    error: Mapping[str, Any], value: Any, model: type[BaseModel], inside: Place
) -> _Finding:
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind == "missing":
        field = _fields(model, inside[:-1]).get(str(inside[-1]))
        meaning = f": {field.description}" if field is not None and field.description else ""
        return _Finding(value, message=f"is missing{meaning}")
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        known = sorted(_fields(model, inside[:-1] if inside and inside[-1] == key else inside))
        hint = did_you_mean(key, known) or f"; there is {listed(known)}" * bool(known)
        return _Finding(value, message=f"unknown key{hint}" if inside[-1:] == (key,) else f"unknown '{key}'{hint}")
    if kind in ("value_error", "assertion_error"):
        return _Finding(value, message=str(context.get("error", error["msg"])))
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"])
        names = [name for name in expected.replace("'", " ").replace(",", " ").split() if name != "or"]
        return _Finding(value, expected, did_you_mean(value, names) if isinstance(value, str) else "")
    if kind in _BOUNDS:
        name, phrase = _BOUNDS[kind]
        bound = context[name]
        return _Finding(value, phrase.format(f"{bound:g}" if isinstance(bound, float) else bound))
    for ending in ("_type", "_parsing", "_from_float", "_attributes_type", "_unit"):
        if kind.removesuffix(ending) in _EXPECTED:
            return _Finding(value, _EXPECTED[kind.removesuffix(ending)])
    return _Finding(value, _EXPECTED[kind]) if kind in _EXPECTED else _Finding(value, message=str(error["msg"]))


def _inside(raw: Any, error: Mapping[str, Any]) -> tuple[Place, Any]:
    """Where an error is in `raw`, without pydantic's own names for the members of a union, and what stands there."""
    place: Place = ()
    location = error["loc"]
    for depth, part in enumerate(location):
        is_key = isinstance(raw, dict) and part in raw
        if is_key or (isinstance(raw, list) and isinstance(part, int) and part < len(raw)):
            raw = raw[part]
        elif depth == len(location) - 1 and error["type"] == "missing":
            raw = None
        else:
            continue
        place = (*place, part)
    return place, raw


def _fields(model: type[BaseModel], inside: Place) -> dict[str, FieldInfo]:
    """The fields that may stand at `inside`; of every model of a union there."""
    models = [model]
    for part in inside:
        if isinstance(part, str):
            annotations = [m.model_fields[part].annotation for m in models if part in m.model_fields]
            models = [inner for annotation in annotations for inner in models_in(annotation)]
    return {field.alias or name: field for m in models for name, field in m.model_fields.items()}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models named in a type such as `tuple[Recover, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def shown(value: Any) -> str:
    """A value as the user wrote it, shortened."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + " ..."
