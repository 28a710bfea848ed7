"""Pipeline -> steps with cache keys. Pure data: nothing heavy is imported, and nothing is computed but digests.

Each model named in the pipeline becomes a `build` step, each stage a step, each file to emit a step. Behind every
float model the plan puts a float ONNX file, and behind a quantized one the file that its first target runs fastest, so
that the report can show the way. Every model and file is evaluated, and all files of a target are profiled together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compress.bundle import Kind
from compress.chain import Origin
from compress.errors import UsageError
from compress.exporting.stage import Export
from compress.models.stage import Build, Derive
from compress.pipeline import Pipeline, Placed
from compress.profiling.stage import Evaluate, Profile
from compress.quantization.stage import Quantize
from compress.stage import Stage
from compress.targets import tensorrt_settings
from compress.targets.settings import CALIBRATED_EMISSIONS, UNCALIBRATED_EMISSIONS, TargetSettings
from compress.targets.stage import Engine
from compress.targets.target import emissions, fingerprint, is_emulated

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


@dataclass(frozen=True)
class Row:
    """One model or file of the report: the step that makes it and the steps that measure it.

    `origin` is the step of the PyTorch model that a file was made from (the step itself for such a model), whose
    record holds parameters and MACs; `evaluations` and `profiles` map a target's name to a step's.
    """

    name: str
    step: str
    stage: str
    kind: Kind
    origin: str
    parent: str | None
    emission: str | None = None
    evaluations: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Steps in an order in which they can run, the rows of the report, and the name of the reference's row."""

    pipeline: Pipeline
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    reference: str

    def step(self, name: str) -> Step:
        """The step of that name."""
        return next(step for step in self.steps if step.name == name)


def thread_count(pipeline: Pipeline) -> int:
    """CPU threads for training: as many as asked for, else one per core of this machine."""
    return pipeline.threads or os.cpu_count() or 1


def make_plan(pipeline: Pipeline, away: Collection[str] = ()) -> Plan:
    """The plan of a pipeline that has been read without fault; nothing is measured on the targets named in `away`.

    What is made is the same with or without them.

    Raises:
        UsageError: a file is asked of a quantized network that is made of a float one.
    """
    return _Planner(pipeline, away).plan()


@dataclass
class _World:
    """What keys are made of beside settings and inputs."""

    pipeline: Pipeline
    _data: dict[str, Any] | None = None

    def facts(self, reads: frozenset[str], target: TargetSettings | None) -> dict[str, Any]:
        """The part of the world that a stage says it reads, as plain data."""
        pipeline = self.pipeline
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


class _Planner:
    """Collects steps and rows in the order of the pipeline; equal keys become one step."""

    def __init__(self, pipeline: Pipeline, away: Collection[str]) -> None:
        self.pipeline = pipeline
        there = [target for target in pipeline.targets if target.name not in away]
        self.measured_on = sorted(there, key=is_emulated)  # what is compared is compared on the first one
        self.world = _World(pipeline)
        self.steps: dict[str, Step] = {}
        self.by_key: dict[str, str] = {}
        self.rows: dict[str, Row] = {}
        self.aliases: dict[str, str] = {}  # name of a stage -> its step
        self.latest: dict[str, str] = {}  # name of a model -> the step of its latest float state
        self.models: dict[str, str] = {}  # step of a model or stage -> name of the model that it comes from

    def plan(self) -> Plan:
        for name in self._used_models():
            if self.pipeline.models[name].origin is None:
                self._build(name)
        reference_step = f"models.{next(iter(self.pipeline.models))}"
        for placed in self.pipeline.stages:
            for origin in self.pipeline.inputs(placed).values():
                if origin.stage is None:
                    self._derive(origin.model)
            inputs = {role: self._step_of(origin) for role, origin in self.pipeline.inputs(placed).items()}
            if isinstance(placed.stage, Export):
                self._export(placed, placed.stage, inputs["source"])
                continue
            stage = placed.stage.for_files(self._emitted()) if isinstance(placed.stage, Quantize) else placed.stage
            step = self._add(placed.name, stage, inputs, self._target_of(stage))
            self.aliases[placed.name] = step.name
            if step.stage.gives is Kind.RESPONSES:
                continue
            self.models[step.name] = self.models[inputs["source"]]
            if step.stage.gives is Kind.TORCH:
                self.latest[self.models[step.name]] = step.name
            if inputs["source"] == reference_step and isinstance(self.steps[reference_step].stage, Build):
                reference_step = step.name if placed.verb in ("train", "distill") else reference_step
            self._torch_row(placed, step, inputs["source"])
            self._waypoint(placed, step)
        reference = self._reference_row(reference_step)
        self._measure(reference)
        pipeline = self.pipeline.model_copy(update={"targets": self.measured_on})
        return Plan(pipeline, tuple(self.steps.values()), tuple(self.rows.values()), reference.name)

    def _target_of(self, stage: Stage) -> TargetSettings | None:
        """The target that a stage's work depends on."""
        named = {target.name: target for target in self.pipeline.targets}
        wanted = stage.on_target(list(named))
        if wanted is not None and named[wanted].runtime == tensorrt_settings.RUNTIME:
            raise UsageError(
                f"{stage.verb}.reach: layers are timed with ONNX Runtime, and target '{wanted}' has TensorRT; name "
                "another of the pipeline's targets with `reach: {target: NAME}`"
            )
        return None if wanted is None else named[wanted]

    def _emitted(self) -> frozenset[str]:
        """All files that are made of quantized networks: what their grid and their bits must suit."""
        stages = [placed.stage for placed in self.pipeline.stages if isinstance(placed.stage, Export)]
        names = [name for stage in stages if stage.emit != "auto" for name in stage.emit]
        automatic = (
            self.pipeline.targets if any(stage.emit == "auto" for stage in stages) else self.pipeline.targets[:1]
        )
        return frozenset([*names, *(name for target in automatic for name in emissions(target))])

    def _build(self, name: str) -> None:
        """The step that makes a model of its own."""
        step = self._add(f"models.{name}", Build(name=name, model=self.pipeline.models[name]), {})
        self.models[step.name], self.latest[name] = name, step.name

    def _derive(self, name: str) -> None:
        """The step that makes a model from another, in the state that this one has where the first stage reads it."""
        settings = self.pipeline.models[name]
        if settings.origin is None or name in self.latest:
            return
        self._derive(settings.origin)
        made_from = self.latest[settings.origin]
        step = self._add(f"models.{name}", Derive(name=name, smaller=settings), {"source": made_from})
        self.models[step.name], self.latest[name] = name, step.name

    def _used_models(self) -> list[str]:
        """The reference, and every model that a stage reads; one that none reads costs nothing."""
        origins = [o for placed in self.pipeline.stages for o in self.pipeline.inputs(placed).values()]
        read = {origin.model for origin in origins if origin.stage is None}
        for name in reversed(self.pipeline.models):  # a model is made from one above it
            if name in read and (made_from := self.pipeline.models[name].origin) is not None:
                read.add(made_from)
        return [n for i, n in enumerate(self.pipeline.models) if i == 0 or n in read]

    def _step_of(self, origin: Origin) -> str:
        """The step that gives what a stage reads; equal stages are one step under the first one's name."""
        if origin.stage is None:
            return f"models.{origin.model}"
        return self.aliases[origin.stage]

    def _add(self, name: str, stage: Stage, inputs: Mapping[str, str], target: TargetSettings | None = None) -> Step:
        key = self._key(stage, inputs, target)
        if key in self.by_key:
            return self.steps[self.by_key[key]]
        step = Step(name, stage, dict(inputs), key, target)
        self.steps[name] = step
        self.by_key[key] = name
        return step

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
            "inputs": {role: self.steps[name].key for role, name in inputs.items()},
            "world": self.world.facts(stage.reads, target),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _torch_row(self, placed: Placed, step: Step, source: str) -> None:
        name = self.models[step.name]
        if placed.verb not in ("train", "distill") or name in self.rows:
            name = f"{name}-{placed.name}"
        parent = next((row.name for row in self.rows.values() if row.step == source), None)
        kind = step.stage.gives or Kind.TORCH
        self.rows[name] = Row(name, step.name, placed.verb, kind, step.name, parent)

    def _waypoint(self, placed: Placed, step: Step) -> None:
        """The file that shows what a stage has done: float, or for a quantized model what the first target runs."""
        if step.stage.gives is Kind.QUANTIZED:
            wanted = emissions(self.pipeline.targets[0])
            emission = next((name for name in wanted if name in CALIBRATED_EMISSIONS), "fp32")
        else:
            emission = "fp32"
        self._file(Export(emit=(emission,)), step.name, placed.verb)

    def _export(self, placed: Placed, stage: Export, source: str) -> None:
        quantized = self.steps[source].stage.gives is Kind.QUANTIZED
        if stage.emit == "auto":
            names = [name for target in self.pipeline.targets for name in emissions(target)]
            unfit: tuple[str, ...] = UNCALIBRATED_EMISSIONS if quantized else (*CALIBRATED_EMISSIONS, "fp16", "bf16")
            names = [name for name in names if name not in unfit] or ["fp32"]
        else:
            names = list(stage.emit)
            if quantized and (unfit := tuple(name for name in names if name in UNCALIBRATED_EMISSIONS)):
                raise self._made_of_float(placed, unfit, self.steps[source].inputs["source"])
        for emission in dict.fromkeys(names):
            self._file(stage.model_copy(update={"emit": (emission,)}), source, stage.verb)

    def _made_of_float(self, placed: Placed, unfit: Sequence[str], floating: str) -> UsageError:
        """What is wrong with asking for files that need no calibration of the network that was made of `floating`."""
        above = next((name for name, step in self.aliases.items() if step == floating), None)
        place = "above `quantize:`" if above is None else f"with `from: {above}`"
        are = "is" if len(unfit) == 1 else "are"
        return UsageError(
            f"{placed.name}: {' and '.join(unfit)} {are} made of a float network, and this one is quantized: give the "
            f"float one an `export` of its own, {place}"
        )

    def _file(self, stage: Export, source: str, verb: str) -> Row:
        """The step and row of one ONNX file; a file that is there already keeps its row."""
        emission = stage.emit[0]
        base = next((row for row in self.rows.values() if row.step == source and row.kind is not Kind.ONNX), None)
        stem = base.name if base else self.models[source]
        name = f"{stem}-{emission}"
        step = self._add(_unused(f"{source}.{emission}", self.steps), stage, {"source": source})
        known = next((row for row in self.rows.values() if row.step == step.name), None)
        if known is None:
            name = _unused(name, self.rows)
            known = Row(name, step.name, verb, Kind.ONNX, source, base.name if base else None, emission)
            self.rows[name] = known
        return known

    def _reference_row(self, reference_step: str) -> Row:
        """The float file of the reference model; made here if it comes with weights and no stage has trained it."""
        return self._file(Export(emit=("fp32",)), reference_step, "export")

    def _measure(self, reference: Row) -> None:
        """Evaluations of all rows (the reference first: others are compared with it) and a profile for each target."""
        ordered = [reference, *(row for row in self.rows.values() if row.name != reference.name)]
        for target in self.measured_on:
            first = target is self.measured_on[0]
            for row in ordered:
                if row.kind is not Kind.ONNX and not first:
                    continue
                measured = self._measured(row, target)
                if measured is None:
                    continue
                inputs = {"source": measured}
                if row.name != reference.name:
                    inputs["reference"] = self.rows[reference.name].evaluations[target.name]
                step = self._add(f"{row.name} on {target.name}", Evaluate(), inputs, target)
                self.rows[row.name] = replace(
                    self.rows[row.name], evaluations={**self.rows[row.name].evaluations, target.name: step.name}
                )
            found = {row.name: self._measured(row, target) for row in ordered if row.kind is Kind.ONNX}
            files = {name: step for name, step in found.items() if step is not None}
            profile = self._add(f"profile on {target.name}", Profile(), files, target)
            for name in files:
                row = self.rows[name]
                self.rows[name] = replace(row, profiles={**row.profiles, target.name: profile.name})

        self._drop_unmeasured()

    def _drop_unmeasured(self) -> None:
        """Files of which no target there says anything have no place in a report.

        Raises:
            UsageError: nor would any target do so that is away.
        """
        for row in [row for row in self.rows.values() if row.kind is Kind.ONNX and not row.evaluations]:
            if all(target.runtime == tensorrt_settings.RUNTIME for target in self.pipeline.targets):
                raise UsageError(
                    f"no target runs {row.emission}: TensorRT reads {', '.join(tensorrt_settings.EMISSIONS)}; leave it "
                    "out of `emit`, or add a target with `runtime: onnxruntime`"
                )
            del self.rows[row.name]

    def _measured(self, row: Row, target: TargetSettings) -> str | None:
        """The step that gives what runs on a target: the row's own, or an engine of it; None if it cannot run there."""
        if row.kind is not Kind.ONNX or target.runtime != tensorrt_settings.RUNTIME:
            return row.step
        if row.emission not in tensorrt_settings.EMISSIONS:
            return None
        return self._add(f"{row.name} engine on {target.name}", Engine.of(target), {"source": row.step}, target).name


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or with the first number from 2 on that makes it new."""
    number = 2
    candidate = name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate
