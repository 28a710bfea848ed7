"""The list under `stages:`: what each item says, whatever is wrong with it, and whether it can follow what it reads."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.chain import Link, linked
from compress.errors import Fault, UsageError
from compress.generation.settings import TEXTS, LearnsTexts
from compress.generation.stage import Generate
from compress.overrides import BESIDE, verb_of
from compress.pipeline import KEYS
from compress.stage import Stage
from compress.stages import STAGES
from compress.suggest import did_you_mean, unknown
from compress.validation import relocated, shown, validated
from compress.yaml_source import Place, Source, as_mapping

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


@dataclass(frozen=True)
class StageItem:
    """One item as far as it could be read: an empty verb is an unknown one, a stage of None has faults."""

    name: str
    verb: str
    stage: Stage | None
    source: str | None
    link: Link


def unfold_stages(data: dict[str, Any]) -> None:
    """`- export` and `- export:` mean `- export: {}`."""
    stages = data.get("stages")
    if not isinstance(stages, list):
        return
    for position, item in enumerate(stages):
        if isinstance(item, str) and item in STAGES:
            stages[position] = {item: {}}
        elif isinstance(item, dict):
            item.update({verb: {} for verb in item if verb in STAGES and item[verb] is None})


def stage_names(items: Sequence[Any]) -> list[str | None]:
    """Each stage's name: as given, else its verb, made unique (`train`, `train-2`)."""
    given = [as_mapping(item).get("name") for item in items]
    taken = {name for name in given if isinstance(name, str)}
    names: list[str | None] = []
    for own_name, item in zip(given, items, strict=True):
        name, verb = own_name if isinstance(own_name, str) else None, verb_of(item)
        if own_name is None and verb is not None:
            candidates = (verb if count == 1 else f"{verb}-{count}" for count in range(1, len(items) + 2))
            name = next(candidate for candidate in candidates if candidate not in taken)
            taken.add(name)
        names.append(name)
    return names


def name_faults(source: Source, place: Place, what: str, name: object) -> list[Fault]:
    """A fault if something may not be called that: names are addresses of `--set` and parts of file names."""
    if isinstance(name, str) and re.fullmatch(_NAME, name):
        return []
    return [source.fault(place, f"{shown(name)} is no name for a {what}: use letters, digits, '_' and '-'")]


def read_stages(source: Source, items: Sequence[Any], models: Container[str]) -> tuple[list[StageItem], list[Fault]]:
    """Every item and every fault in them; `models` are the names that stages may not take."""
    names = stage_names(items)
    faults: list[Fault] = []
    read = []
    for position, (item, own_name) in enumerate(zip(items, names, strict=True)):
        faults += _stage_name_faults(source, position, names, item, models)
        name = own_name or f"stages[{position}]"
        verb, verb_faults = _verb(source, ("stages", position), item)
        given = as_mapping(item).get("from")
        if given is not None and not isinstance(given, str):
            place = ("stages", position, "from")
            faults.append(source.fault(place, f"must be the name of a model or stage, not {shown(given)}"))
        origin = given if isinstance(given, str) else None
        stage, stage_faults = _settings(source, ("stages", position), item, verb) if verb else (None, [])
        partial = _names_only(STAGES[verb], item[verb]) if verb and stage is None else None
        link = Link(name, stage or partial, origin, partial=stage is None)
        read.append(StageItem(name, verb, stage, origin, link))
        faults += verb_faults + stage_faults
    return read, faults


def _stage_name_faults(
    source: Source, position: int, names: Sequence[str | None], item: Any, models: Container[str]
) -> list[Fault]:
    place: Place = ("stages", position, "name")
    given, name = as_mapping(item).get("name"), names[position]
    faults = [] if given is None else name_faults(source, place, "stage", given)
    if name is None:
        return faults
    if name in names[:position]:
        faults.append(source.fault(place, f"another stage is called '{name}' already"))
    if name in models:
        faults.append(source.fault(place, f"a model is called '{name}' already; give the stage another `name:`"))
    if name in KEYS:
        faults.append(source.fault(place, f"'{name}' is a key of the pipeline; give the stage another `name:`"))
    return faults


def _verb(source: Source, place: Place, item: Any) -> tuple[str, list[Fault]]:
    """The verb of an item, empty if it has none or several, and what is wrong with its keys."""
    if isinstance(item, str):
        return "", [source.fault(place, unknown("stage", item, STAGES))]
    if not isinstance(item, dict) or not item:
        return "", [
            source.fault(place, f"must be a verb with its settings, such as `- export: {{}}`, not {shown(item)}")
        ]
    verbs = [key for key in item if key in STAGES]
    others = [key for key in item if key not in STAGES and key not in BESIDE]
    if not verbs and not others:
        return "", [source.fault(place, f"names no verb; there is {', '.join(STAGES)}")]
    if not verbs:
        return "", [source.fault((*place, key), unknown("stage", key, STAGES)) for key in others]
    faults = []
    for key in others:
        if key in STAGES[verbs[0]].model_fields:
            message = f"belongs to `{verbs[0]}`: indent it further"
        else:
            message = f"unknown key beside `{verbs[0]}`{did_you_mean(key, [*STAGES, *BESIDE])}"
        faults.append(source.fault((*place, key), message))
    if len(verbs) > 1:
        faults.append(source.fault(place, f"holds {' and '.join(verbs)}; write each stage as an item of its own"))
    return verbs[0] if len(verbs) == 1 else "", faults


def _settings(source: Source, place: Place, item: Mapping[str, Any], verb: str) -> tuple[Stage | None, list[Fault]]:
    """The settings under a verb, or what is wrong with them."""
    stage, faults = validated(STAGES[verb], item[verb], source, (*place, verb))
    if stage is None:
        return None, faults
    for where, message in stage.faults():
        faults += relocated(UsageError(Fault(message, where)), source, (*place, verb))
    model, origin = getattr(stage, "model", None), item.get("from")
    if model is not None and origin is not None and model != origin:
        faults.append(source.fault((*place, "from"), f"contradicts `model: {model}`; leave one of them out"))
    return stage, faults


def _names_only(stage_type: type[Stage], settings: Any) -> Stage:
    """A stage whose settings are wrong, with those that are text alone: enough to know what it refers to."""
    given = as_mapping(settings)
    names = {key: given.get(key) if isinstance(given.get(key), str) else None for key in stage_type.model_fields}
    return stage_type.model_construct(**names)


def link_faults(source: Source, items: Sequence[StageItem], useful: Mapping[str, bool]) -> list[Fault]:
    """What is wrong with what the stages read; `useful` says of each model whether it needs no training."""
    _, faults = linked([item.link for item in items], useful)
    found = []
    for position, key, message in faults:
        verb = items[position].verb
        tail = ("from",) if key == "from" else (verb, key) if key else (verb,)
        found.append(source.fault(("stages", position, *tail), message))
    return found + _split_faults(source, items)


def _split_faults(source: Source, items: Sequence[StageItem]) -> list[Fault]:
    """Texts that are learnt must be answers to the training split."""
    others = {i.name: i.stage.split for i in items if isinstance(i.stage, Generate) and i.stage.split != "train"}
    return [
        source.fault(
            ("stages", position, item.verb, TEXTS),
            f"'{item.stage.on}' answers the {others[item.stage.on]} split; learnt are answers to the training split",
        )
        for position, item in enumerate(items)
        if isinstance(item.stage, LearnsTexts) and item.stage.on in others
    ]
