"""Steps with cache keys: stages placed in a plan, collected so that equal ones become one.

A key says what was asked: a stage's settings and version, its inputs' keys, and what it reads of the world.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.models.stage import Build
from compress.pipeline import Pipeline
from compress.profiling.stage import Evaluate, Profile
from compress.stage import Stage
from compress.targets.settings import TargetSettings
from compress.targets.target import fingerprint
from compress.threads import default_threads

KEY_FORMAT = 1


@dataclass(frozen=True)
class Step:
    """A stage placed in a plan: what it reads (role -> name of another step), and its key."""

    name: str
    stage: Stage
    inputs: dict[str, str]
    key: str
    target: TargetSettings | None = None

    @property
    def measures(self) -> bool:
        """Whether the step only measures, so that `--remeasure` repeats it."""
        return isinstance(self.stage, Evaluate | Profile)


def thread_count(pipeline: Pipeline) -> int:
    """CPU threads for training: as many as asked for, else `default_threads`."""
    return pipeline.threads or default_threads()


def unused(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or with the first number from 2 on that makes it new."""
    number = 2
    candidate = name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


class Steps:
    """The steps of a pipeline by name, in an order in which they can run."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.named: dict[str, Step] = {}
        self._by_key: dict[str, Step] = {}
        self._pipeline = pipeline
        self._data: dict[str, Any] | None = None

    def add(self, name: str, stage: Stage, inputs: Mapping[str, str], target: TargetSettings | None = None) -> Step:
        """The step of a stage and what it reads; one that is there already keeps the name that it has."""
        key = self._key(stage, inputs, target)
        if key not in self._by_key:
            self.named[name] = self._by_key[key] = Step(name, stage, dict(inputs), key, target)
        return self._by_key[key]

    def _key(self, stage: Stage, inputs: Mapping[str, str], target: TargetSettings | None) -> str:
        """A digest of the stage, its settings, its inputs' keys and what it reads of the world."""
        settings: Any = stage.asked()
        if isinstance(stage, Build):
            settings = {"name": stage.name, "model": stage.model.fingerprint()}
        content = {
            "format": KEY_FORMAT,
            "verb": stage.verb,
            "version": stage.version,
            "settings": settings,
            "inputs": {role: self.named[name].key for role, name in inputs.items()},
            "world": self._world(stage.reads, target),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _world(self, reads: frozenset[str], target: TargetSettings | None) -> dict[str, Any]:
        """The part of the world that a stage says it reads, as plain data."""
        pipeline = self._pipeline
        facts: dict[str, Any] = {}
        if "data" in reads:
            if self._data is None:
                self._data = {"data": pipeline.data.fingerprint(), "task": pipeline.task.fingerprint()}
            facts |= self._data
        if "seed" in reads:
            facts["seed"] = pipeline.seed
        if "threads" in reads:
            facts["threads"] = thread_count(pipeline)
        if "processes" in reads:
            facts["processes"] = pipeline.processes
        if "place" in reads and target is not None:
            facts["place"] = fingerprint(target)
        if "target" in reads and target is not None:
            facts["target"] = [target.model_dump(mode="json", exclude={"name", "budget"}), fingerprint(target)]
        return facts
