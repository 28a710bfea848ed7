"""The pipeline file described from its own classes: a JSON Schema for editors (and the README's reference)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from compress.data.settings import DataSettings
from compress.models.settings import ModelSettings
from compress.pipeline import KEYS, Card, Header, Pipeline
from compress.reference import reference_markdown
from compress.stages import STAGES
from compress.targets.limits import Budget
from compress.targets.settings import TargetSettings
from compress.tasks.settings import TaskSettings
from compress.validation import models_in

__all__ = ["reference_markdown", "schema"]

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
NAME: Json = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"}


def schema() -> Json:
    """The JSON Schema (draft 2020-12) of a pipeline file."""
    models: list[type[BaseModel]] = [Header, Budget, Card, DataSettings, TaskSettings, ModelSettings, TargetSettings]
    models += STAGES.values()
    references, combined = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}", title="compress"
    )
    definitions: Json = combined["$defs"]
    at = {model: references[(model, "validation")] for model in models}
    for definition in definitions.values():
        _tidied(definition)
    for model in _all_models(models):
        _allow_short_form(model, definitions)
    header = definitions.pop(_name(at[Header]))
    properties = {**header["properties"], **_parts(at)}
    for key in ("data", "task", "models", "stages", "targets"):
        properties[key]["description"] = Pipeline.model_fields[key].description
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of compress",
        "type": "object",
        "properties": {key: properties[key] for key in KEYS},
        "required": ["data", "models", "stages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _parts(at: dict[type[BaseModel], Json]) -> Json:
    """The keys of a pipeline that have readers of their own."""
    task = {"anyOf": [TEXT, at[TaskSettings], {"type": "object", "minProperties": 1, "maxProperties": 1}]}
    models = {"type": "object", "minProperties": 1, "propertyNames": NAME, "additionalProperties": at[ModelSettings]}
    stages = {"type": "array", "minItems": 1, "items": {"anyOf": [{"enum": list(STAGES)}, *_stages(at)]}}
    return {
        "data": {"anyOf": [TEXT, at[DataSettings]]},
        "task": task,
        "models": models,
        "stages": stages,
        "targets": {"type": "array", "minItems": 1, "items": {"anyOf": [TEXT, at[TargetSettings]]}},
    }


def _stages(at: dict[type[BaseModel], Json]) -> list[Json]:
    return [
        {
            "type": "object",
            "properties": {
                verb: {"anyOf": [at[stage], {"type": "null"}], "description": stage.__doc__},
                "name": {**NAME, "description": "How other stages, --set and reports call it; the verb unless given."},
                "from": {**TEXT, "description": "The model or stage to go on from; the stage above unless given."},
            },
            "required": [verb],
            "additionalProperties": False,
        }
        for verb, stage in STAGES.items()
    ]


def _name(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _tidied(definition: Any) -> None:
    """Takes out generated titles, which only repeat the keys, in place."""
    if isinstance(definition, dict):
        if isinstance(definition.get("title"), str):
            del definition["title"]
        for value in definition.values():
            _tidied(value)
    elif isinstance(definition, list):
        for value in definition:
            _tidied(value)


def _all_models(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """The models and all that stand in their fields."""
    found: dict[type[BaseModel], None] = {}
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found[model] = None
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
    return list(found)


def _allow_short_form(model: type[BaseModel], definitions: Json) -> None:
    """`kl` for `{kl: {}}`: a model whose validator reads a bare name accepts one in the schema too."""
    definition = definitions.get(model.__name__)
    readers = model.__pydantic_decorators__.model_validators.values()
    if definition is not None and "properties" in definition and any(r.info.mode == "before" for r in readers):
        definitions[model.__name__] = {"anyOf": [TEXT, definition], "description": definition.get("description", "")}
