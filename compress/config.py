"""pipeline.yaml -> Pipeline, or one error that lists every fault with its path, its line and a suggestion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from compress.chain import Origin
from compress.data.settings import read_data_settings
from compress.errors import Fault, UsageError
from compress.models.settings import ModelSettings
from compress.overrides import apply_overrides
from compress.pipeline import KEYS, Header, Pipeline, Placed
from compress.stage_items import link_faults, name_faults, read_stages, stage_names, unfold_stages
from compress.suggest import did_you_mean, listed, unknown
from compress.targets.limits import Budget
from compress.targets.reading import read_target
from compress.targets.settings import DEFAULT_TARGETS, TargetSettings
from compress.tasks.settings import TaskSettings, read_task_settings
from compress.validation import relocated, shown, validated
from compress.yaml_source import SET, Place, Source, as_mapping, path_of, read_yaml

__all__ = ["Budget", "Origin", "Pipeline", "Placed", "read_pipeline"]

Read = TypeVar("Read")


def read_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline in a file, with the command line's `address=value` overrides.

    Raises:
        UsageError: everything that is wrong with it, found without importing anything heavy.
    """
    source = read_yaml(path)
    if not isinstance(source.data, dict):
        wanted = "a pipeline is a mapping with the keys data, models, stages"
        raise UsageError([*source.faults, source.fault((), f"{wanted}; this file holds {shown(source.data)}")])
    unfold_stages(source.data)
    names = stage_names(source.data["stages"]) if isinstance(source.data.get("stages"), list) else []
    apply_overrides(source, overrides, names, KEYS, path.parent.resolve())
    unfold_stages(source.data)
    return _Reading(source, path.parent.resolve(), path.stem).pipeline()


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
        self.check_targets(stages, targets)
        if header is not None and header.budget.accuracy_drop is not None and task is not None:
            self.check_metric(task, ())
        for position, target in enumerate(targets):
            if target.budget.accuracy_drop is not None and task is not None:
                self.check_metric(task, ("targets", position))
        if self.faults or header is None or data is None or task is None:
            raise UsageError(sorted(dict.fromkeys(self.faults), key=lambda fault: fault.line or 0))
        return Pipeline(
            **dict(header), folder=self.base, data=data, task=task, models=models, stages=stages, targets=targets
        )

    def check_targets(self, stages: Sequence[Placed], targets: Sequence[TargetSettings]) -> None:
        """Whether each target that a stage names is one of the pipeline's."""
        names = [target.name for target in targets]
        for number, placed in enumerate(stages):
            wanted = placed.stage.on_target(names) if names else None
            if wanted is not None and wanted not in names:
                self.add(("stages", number, placed.verb, "reach", "target"), unknown("target", wanted, names))

    def add(self, place: Place, message: str) -> None:
        """Note a fault."""
        self.faults.append(self.source.fault(place, message))

    def header(self) -> Header | None:
        """The plain values, the budget and the card."""
        raw = {"name": self.stem, **{key: self.data[key] for key in self.data if key in Header.model_fields}}
        for whole in ("budget", "card"):  # a heading with nothing below it says nothing
            raw[whole] = {} if raw.get(whole) is None else raw[whole]
        header, faults = validated(Header, raw, self.source)
        self.faults += faults
        return header

    def check_metric(self, task: TaskSettings, place: Place) -> None:
        """Whether the task has the accuracy that the budget at `place` speaks of."""
        metric = task.primary_metric
        if metric not in ("accuracy", None):
            judged = f"a {task.name} is judged by its {metric} and has no accuracy"
            self.add((*place, "budget", "accuracy_drop"), f"{judged}; use metric_drop, in the metric's unit")

    def read_part(self, key: str, read: Callable[[Any, Path], Read]) -> Read | None:
        """A part that has a reader of its own."""
        if key not in self.data:
            self.add((), f"{key}: is missing: {Pipeline.model_fields[key].description}")
            return None
        return self.read_value((key,), self.data[key], read)

    def read_value(self, place: Place, value: Any, read: Callable[[Any, Path], Read]) -> Read | None:
        """What `read` makes of `value`, which must be a name, a path or a mapping; or of that file as changed."""
        if not isinstance(value, str | dict) or value in ("", {}):
            self.add(place, f"must be a name, a path or a mapping, not {shown(value)}")
            return None
        changed = self.source.files.get(place)
        try:
            return read(value if changed is None else changed, self.base)
        except UsageError as error:
            faults = relocated(error, self.source, place)
            self.faults += faults if changed is None else [_from_the_top(fault, place) for fault in faults]
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
            self.faults += name_faults(self.source, ("models", name), "model", name)
            settings, faults = validated(ModelSettings, raw, self.source, ("models", name))
            self.faults += faults
            if settings is not None:
                try:
                    result[name] = settings.resolved(self.base)
                except UsageError as error:
                    self.faults += relocated(error, self.source, ("models", name))
        self.check_origins(given, result)
        return result

    def check_origins(self, given: Mapping[str, Any], read: Mapping[str, ModelSettings]) -> None:
        """Whether models that are made from others name one above them."""
        above: list[str] = []
        for position, name in enumerate(given):
            origin = read[name].origin if name in read else None
            if origin is not None and position == 0:
                self.add(("models", name, "from"), "the first model is what others are compared with: make it whole")
            elif origin == name:
                self.add(("models", name, "from"), "names this model itself; name one above")
            elif origin is not None and origin not in above:
                below = "names a model below; put it above"
                self.add(("models", name, "from"), below if origin in given else unknown("model", origin, above))
            above.append(name)

    def targets(self) -> list[TargetSettings]:
        """The targets; this machine unless others are named."""
        given = self.data.get("targets", list(DEFAULT_TARGETS))
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
        given = self.data.get("stages")
        if not isinstance(given, list) or not given:
            found = f", not {shown(given)}" if given else "; there is none"
            self.add(("stages",), f"must be a list of at least one stage, such as `- export: {{}}`{found}")
            return []
        models_named = as_mapping(self.data.get("models"))
        items, faults = read_stages(self.source, given, models_named)
        useful = {name: name not in models or not _is_random(models[name]) for name in models_named}
        self.faults += faults + (link_faults(self.source, items, useful) if useful else [])
        return [
            Placed(name=item.name, verb=item.verb, stage=item.stage, source=item.source)
            for item in items
            if item.stage is not None
        ]


def _from_the_top(fault: Fault, place: Place) -> Fault:
    """What is wrong with a value that `--set` put into a file which is named at `place`, told as an address."""
    return replace(fault, where=f"{path_of(place)}.{fault.where}") if fault.file == SET else fault


def _is_random(model: ModelSettings) -> bool:
    """Whether a network certainly has new weights alone, so that it must be trained to be of use."""
    return (model.zoo is not None and not model.has_weights) or (model.origin is not None and model.layers is None)


def _not_finite(value: Any, place: Place) -> Iterator[Place]:
    """Where infinities and NaNs stand."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _not_finite(inner, (*place, key))
