"""pipeline.yaml -> Pipeline, or one error that lists every fault with its path, its line and a suggestion."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from compress.chain import Link, Origin, linked
from compress.data.settings import read_data_settings
from compress.errors import Fault, UsageError
from compress.models.settings import ModelSettings
from compress.overrides import BESIDE, apply_overrides, verb_of
from compress.pipeline import KEYS, Budget, Header, Pipeline, Placed
from compress.stage import Stage
from compress.stages import STAGES
from compress.suggest import did_you_mean, listed, unknown
from compress.targets.settings import TargetSettings, read_target
from compress.tasks.settings import TaskSettings, read_task_settings
from compress.validation import relocated, shown, validated
from compress.yaml_source import Place, Source, as_mapping, read_yaml

__all__ = ["Budget", "Origin", "Pipeline", "Placed", "read_pipeline"]

Read = TypeVar("Read")
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


def read_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline in a file, with the command line's `address=value` overrides.

    Raises:
        UsageError: everything that is wrong with it, found without importing anything heavy.
    """
    source = read_yaml(path)
    if not isinstance(source.data, dict):
        wanted = "a pipeline is a mapping with the keys data, models, stages"
        raise UsageError([*source.faults, source.fault((), f"{wanted}; this file holds {shown(source.data)}")])
    _unfold_stages(source.data)
    names = _stage_names(source.data["stages"]) if isinstance(source.data.get("stages"), list) else []
    apply_overrides(source, overrides, names, KEYS)
    _unfold_stages(source.data)
    return _Reading(source, path.parent.resolve(), path.stem).pipeline()


def _unfold_stages(data: dict[str, Any]) -> None:
    """`- export` and `- export:` mean `- export: {}`."""
    stages = data.get("stages")
    for position, item in enumerate(stages if isinstance(stages, list) else []):
        if isinstance(item, str) and item in STAGES:
            stages[position] = {item: {}}
        elif isinstance(item, dict):
            item.update({verb: {} for verb in item if verb in STAGES and item[verb] is None})


def _stage_names(items: Sequence[Any]) -> list[str | None]:
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


class _Reading:
    """One reading of one file: `faults` grows while the parts are read, and decides at the end."""

    def __init__(self, source: Source, base: Path, stem: str) -> None:
        self.source, self.base, self.stem = source, base, stem
        self.data: dict[str, Any] = source.data
        self.faults: list[Fault] = list(source.faults)

    def pipeline(self) -> Pipeline:
        """Every part, then the links between them; UsageError if anything was wrong anywhere."""
        for place in _not_finite(self.data, ()):
            self.add(place, "must be a finite number")
        for key in self.data:
            if key not in KEYS:
                self.add((key,), f"unknown key{did_you_mean(key, KEYS) or f'; there is {listed(KEYS)}'}")
        header = self.header()
        data = self.read_part("data", read_data_settings)
        task = self.read_part("task", read_task_settings) if "task" in self.data else TaskSettings()
        models = self.models()
        targets = self.targets()
        stages = self.stages(models)
        if self.faults or header is None or data is None or task is None:
            raise UsageError(sorted(dict.fromkeys(self.faults), key=lambda fault: fault.line or 0))
        return Pipeline(
            **dict(header), folder=self.base, data=data, task=task, models=models, stages=stages, targets=targets
        )

    def add(self, place: Place, message: str) -> None:
        """Note a fault."""
        self.faults.append(self.source.fault(place, message))

    def header(self) -> Header | None:
        """The plain values and the budget."""
        raw = {"name": self.stem, **{key: self.data[key] for key in self.data if key in Header.model_fields}}
        raw["budget"] = {} if raw.get("budget") is None else raw["budget"]
        header, faults = validated(Header, raw, self.source)
        for fault in faults:
            pattern = fault.message.startswith("String should match")
            words = {
                "name": f"{shown(raw['name'])} must be letters, digits, '.', '_' and '-'; set `name:`",
                "device": f"must be auto, cpu, cuda, cuda:N or mps, not {shown(raw.get('device'))}",
            }
            self.faults.append(Fault(words[fault.where], fault.where, fault.file, fault.line) if pattern else fault)
        return header

    def read_part(self, key: str, read: Callable[[Any, Path], Read]) -> Read | None:
        """A part that has a reader of its own."""
        if key not in self.data:
            self.add((), f"{key}: is missing: {Pipeline.model_fields[key].description}")
            return None
        return self.read_value((key,), self.data[key], read)

    def read_value(self, place: Place, value: Any, read: Callable[[Any, Path], Read]) -> Read | None:
        """What `read` makes of `value`, which must be a name, a path or a mapping."""
        if not isinstance(value, str | dict) or value in ("", {}):
            self.add(place, f"must be a name, a path or a mapping, not {shown(value)}")
            return None
        try:
            return read(value, self.base)
        except UsageError as error:
            self.faults += relocated(error, self.source, place)
            return None

    def models(self) -> dict[str, ModelSettings]:
        """The networks that could be read."""
        given = self.data.get("models")
        if not isinstance(given, dict) or not given:
            found = "" if given is None else f", not {shown(given)}"
            self.add(("models",), f"must name at least one network, such as {{net: {{zoo: resnet8}}}}{found}")
            return {}
        result = {}
        for name, raw in given.items():
            self.check_name(("models", name), "model", name)
            settings, faults = validated(ModelSettings, raw, self.source, ("models", name))
            self.faults += faults
            if settings is not None:
                try:
                    result[name] = settings.resolved(self.base)
                except UsageError as error:
                    self.faults += relocated(error, self.source, ("models", name))
        return result

    def check_name(self, place: Place, what: str, name: object) -> None:
        """Whether something may be called that."""
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            self.add(place, f"{shown(name)} is no name for a {what}: use letters, digits, '_' and '-'")

    def targets(self) -> list[TargetSettings]:
        """The targets; this machine unless others are named."""
        given = self.data.get("targets", ["local"])
        if not isinstance(given, list) or not given:
            self.add(("targets",), f"must be a list of names, paths or mappings such as [local], not {shown(given)}")
            return []
        read = [self.read_value(("targets", position), value, read_target) for position, value in enumerate(given)]
        seen: dict[str, int] = {}
        for position, target in enumerate(read):
            if target is not None and seen.setdefault(target.name, position) != position:
                self.add(("targets", position), f"target '{target.name}' is there already; give each its own `name:`")
        return [target for target in read if target is not None]

    def stages(self, models: Mapping[str, ModelSettings]) -> list[Placed]:
        """The stages that could be read, after checking that each can follow what it reads."""
        items = self.data.get("stages")
        if not isinstance(items, list) or not items:
            found = "there are none" if not items else f"not {shown(items)}"
            self.add(("stages",), f"must be a list of at least one stage, such as `- export: {{}}`; {found}")
            return []
        names = _stage_names(items)
        placed: list[Placed] = []
        links: list[Link | None] = []
        for position, (item, name) in enumerate(zip(items, names, strict=True)):
            self.check_stage_name(position, item, name, names)
            stage, verb = self.stage(position, item)
            source = as_mapping(item).get("from")
            if source is not None and not isinstance(source, str):
                self.add(("stages", position, "from"), f"must be the name of a model or stage, not {shown(source)}")
                source = None
            if stage is not None:
                placed.append(Placed(name=name or f"stage {position}", verb=verb, stage=stage, source=source))
            links.append(Link(name or f"stage {position}", STAGES[verb], stage, source) if verb else None)
        if all(links):
            self.check_links([link for link in links if link is not None], models)
        return placed

    def check_stage_name(self, position: int, item: Any, name: str | None, names: Sequence[str | None]) -> None:
        """Whether a stage's name is one, and its own."""
        place: Place = ("stages", position, "name")
        given = as_mapping(item).get("name")
        if given is not None:
            self.check_name(place, "stage", given)
        if name is None:
            return
        if name in names[:position]:
            self.add(place, f"another stage is called '{name}' already")
        if name in as_mapping(self.data.get("models")):
            self.add(place, f"a model is called '{name}' already; give the stage another `name:`")
        if name in KEYS:
            self.add(place, f"'{name}' is a key of the pipeline; give the stage another `name:`")

    def stage(self, position: int, item: Any) -> tuple[Stage | None, str]:
        """The settings of a stage and its verb; None or an empty verb if they cannot be read."""
        place: Place = ("stages", position)
        if isinstance(item, str):
            self.add(place, unknown("stage", item, STAGES))
            return None, ""
        if not isinstance(item, dict) or not item:
            self.add(place, f"must be a verb with its settings, such as `- export: {{}}`, not {shown(item)}")
            return None, ""
        verbs = [key for key in item if key in STAGES]
        others = [key for key in item if key not in STAGES and key not in BESIDE]
        if not verbs:
            for key in others or [""]:
                self.add((*place, key) if key else place, unknown("stage", key, STAGES) if key else "names no verb")
            return None, ""
        for key in others:
            inside = key in STAGES[verbs[0]].model_fields
            hint = f" belongs to `{verbs[0]}`: indent it further" if inside else did_you_mean(key, [*STAGES, *BESIDE])
            self.add((*place, key), f"unknown key beside `{verbs[0]}`{';' * inside}{hint}")
        if len(verbs) > 1:
            self.add(place, f"holds {' and '.join(verbs)}; write each stage as an item of its own")
            return None, ""
        verb = verbs[0]
        stage, faults = validated(STAGES[verb], item[verb], self.source, (*place, verb))
        self.faults += faults
        for inside_path, message in stage.faults() if stage is not None else []:
            self.faults += relocated(UsageError(Fault(message, inside_path)), self.source, (*place, verb))
        if stage is not None and item.get("from") is not None and getattr(stage, "model", None) is not None:
            self.add((*place, "from"), f"says the same as `model:` of {verb}; leave one of them out")
        return stage, verb

    def check_links(self, links: Sequence[Link], models: Mapping[str, ModelSettings]) -> None:
        """Whether each stage's inputs exist above it and are of a kind that it can read."""
        named = as_mapping(self.data.get("models"))
        useful = {name: name not in models or models[name].zoo is None or models[name].has_weights for name in named}
        _, faults = linked(links, useful)
        for position, key, message in faults:
            verb = links[position].stage_type.verb
            tail = ("from",) if key == "from" else (verb, key) if key else (verb,)
            self.add(("stages", position, *tail), message)


def _not_finite(value: Any, place: Place) -> Iterator[Place]:
    """Where infinities and NaNs stand."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _not_finite(inner, (*place, key))
