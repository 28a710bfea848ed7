"""Pipeline -> steps with cache keys. Pure data: nothing heavy is imported, and nothing is computed but digests.

Each model named in the pipeline becomes a `build` step, each stage a step, each file to emit a step. Behind every
float model the plan puts a float ONNX file, and behind a quantized one the file that its first target runs fastest, so
that the report can show the way. What measures them is put there by `rows`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from compress.bundle import Kind
from compress.chain import Origin
from compress.errors import UsageError
from compress.exporting.stage import Export
from compress.models.stage import Build, Derive
from compress.pipeline import Pipeline, Placed
from compress.quantization.stage import Quantize
from compress.rows import Row, Rows
from compress.stage import Stage
from compress.steps import Step, Steps
from compress.targets import tensorrt_settings
from compress.targets.emissions import CALIBRATED_EMISSIONS, UNCALIBRATED_EMISSIONS
from compress.targets.settings import TargetSettings
from compress.targets.target import emissions, is_emulated


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


def make_plan(pipeline: Pipeline, away: Collection[str] = ()) -> Plan:
    """The plan of a pipeline that has been read without fault; nothing is measured on the targets named in `away`.

    What is made is the same with or without them.

    Raises:
        UsageError: a file is asked of a quantized network that is made of a float one.
    """
    return _Planner(pipeline, away).plan()


class _Planner:
    """Walks through the models and stages of a pipeline, in its order."""

    def __init__(self, pipeline: Pipeline, away: Collection[str]) -> None:
        self.pipeline = pipeline
        self.away = away
        self.steps = Steps(pipeline)
        self.rows = Rows(self.steps)
        self.stages: dict[str, str] = {}  # name of a stage -> its step
        self.latest: dict[str, str] = {}  # name of a model -> the step of its latest float state
        self.models: dict[str, str] = {}  # step of a model or stage -> name of the model that it comes from
        self.reference = f"models.{next(iter(pipeline.models))}"  # the step that gives what others are compared with

    def plan(self) -> Plan:
        for name in _used_models(self.pipeline):
            if self.pipeline.models[name].origin is None:
                self._build(name)
        for placed in self.pipeline.stages:
            self._place(placed)
        # The reference's float file; made here if it comes with weights and no stage has trained it.
        reference = self._file(Export(emit=("fp32",)), self.reference, "export")
        there = [target for target in self.pipeline.targets if target.name not in self.away]
        measured_on = sorted(there, key=is_emulated)  # what is compared is compared on the first one
        self.rows.measure(reference.name, measured_on)
        self.rows.drop_unmeasured(self.pipeline.targets)
        pipeline = self.pipeline.model_copy(update={"targets": measured_on})
        steps, rows = tuple(self.steps.named.values()), tuple(self.rows.named.values())
        return Plan(pipeline, steps, rows, reference.name)

    def _place(self, placed: Placed) -> None:
        """The steps and rows of one stage."""
        read = self.pipeline.inputs(placed)
        for origin in read.values():
            if origin.stage is None:
                self._derive(origin.model)
        inputs = {role: self._step_of(origin) for role, origin in read.items()}
        if isinstance(placed.stage, Export):
            self._export(placed, placed.stage, inputs["source"])
            return
        stage = placed.stage.for_files(_emitted(self.pipeline)) if isinstance(placed.stage, Quantize) else placed.stage
        step = self.steps.add(placed.name, stage, inputs, _target_of(stage, self.pipeline))
        self.stages[placed.name] = step.name
        if step.stage.gives is not Kind.RESPONSES:
            self._network(placed, step, inputs["source"])

    def _network(self, placed: Placed, step: Step, source: str) -> None:
        """What follows from a stage that gives a network: its model's state, its row, and the file that shows it."""
        model = self.models[step.name] = self.models[source]
        if step.stage.gives is Kind.TORCH:
            self.latest[model] = step.name
        trains = placed.verb in ("train", "distill")
        if trains and source == self.reference and isinstance(self.steps.named[source].stage, Build):
            self.reference = step.name
        name = model if trains and model not in self.rows.named else f"{model}-{placed.name}"
        self.rows.add_network(name, step, placed.verb, source)
        emission = "fp32"
        if step.stage.gives is Kind.QUANTIZED:
            wanted = emissions(self.pipeline.targets[0])
            emission = next((name for name in wanted if name in CALIBRATED_EMISSIONS), "fp32")
        self._file(Export(emit=(emission,)), step.name, placed.verb)

    def _build(self, name: str) -> None:
        """The step that makes a model of its own."""
        step = self.steps.add(f"models.{name}", Build(name=name, model=self.pipeline.models[name]), {})
        self.models[step.name], self.latest[name] = name, step.name

    def _derive(self, name: str) -> None:
        """The step that makes a model from another, in the state that this one has where the first stage reads it."""
        settings = self.pipeline.models[name]
        if settings.origin is None or name in self.latest:
            return
        self._derive(settings.origin)
        made_from = self.latest[settings.origin]
        step = self.steps.add(f"models.{name}", Derive(name=name, smaller=settings), {"source": made_from})
        self.models[step.name], self.latest[name] = name, step.name

    def _step_of(self, origin: Origin) -> str:
        """The step that gives what a stage reads; equal stages are one step under the first one's name."""
        if origin.stage is None:
            return f"models.{origin.model}"
        return self.stages[origin.stage]

    def _export(self, placed: Placed, stage: Export, source: str) -> None:
        quantized = self.steps.named[source].stage.gives is Kind.QUANTIZED
        if stage.emit == "auto":
            names = [name for target in self.pipeline.targets for name in emissions(target)]
            unfit: tuple[str, ...] = UNCALIBRATED_EMISSIONS if quantized else (*CALIBRATED_EMISSIONS, "fp16", "bf16")
            names = [name for name in names if name not in unfit] or ["fp32"]
        else:
            names = list(stage.emit)
            if quantized and (unfit := tuple(name for name in names if name in UNCALIBRATED_EMISSIONS)):
                raise self._made_of_float(placed, unfit, self.steps.named[source].inputs["source"])
        for emission in dict.fromkeys(names):
            self._file(stage.model_copy(update={"emit": (emission,)}), source, stage.verb)

    def _made_of_float(self, placed: Placed, unfit: Sequence[str], floating: str) -> UsageError:
        """What is wrong with asking for files that need no calibration of the network that was made of `floating`."""
        above = next((name for name, step in self.stages.items() if step == floating), None)
        place = "above `quantize:`" if above is None else f"with `from: {above}`"
        are = "is" if len(unfit) == 1 else "are"
        return UsageError(
            f"{placed.name}: {' and '.join(unfit)} {are} made of a float network, and this one is quantized: give the "
            f"float one an `export` of its own, {place}"
        )

    def _file(self, stage: Export, source: str, verb: str) -> Row:
        """The row of one file of what the step `source` gave."""
        return self.rows.add_file(stage, source, verb, self.models[source])


def _used_models(pipeline: Pipeline) -> list[str]:
    """The reference, and every model that a stage reads; one that none reads costs nothing."""
    origins = [origin for placed in pipeline.stages for origin in pipeline.inputs(placed).values()]
    read = {origin.model for origin in origins if origin.stage is None}
    for name in reversed(pipeline.models):  # a model is made from one above it
        if name in read and (made_from := pipeline.models[name].origin) is not None:
            read.add(made_from)
    return [name for number, name in enumerate(pipeline.models) if number == 0 or name in read]


def _target_of(stage: Stage, pipeline: Pipeline) -> TargetSettings | None:
    """The target that a stage's work depends on."""
    named = {target.name: target for target in pipeline.targets}
    wanted = stage.on_target(list(named))
    if wanted is not None and named[wanted].runtime == tensorrt_settings.RUNTIME:
        raise UsageError(
            f"{stage.verb}.reach: layers are timed with ONNX Runtime, and target '{wanted}' has TensorRT; name "
            "another of the pipeline's targets with `reach: {target: NAME}`"
        )
    return None if wanted is None else named[wanted]


def _emitted(pipeline: Pipeline) -> frozenset[str]:
    """All files that are made of quantized networks: what their grid and their bits must suit."""
    stages = [placed.stage for placed in pipeline.stages if isinstance(placed.stage, Export)]
    names = [name for stage in stages if stage.emit != "auto" for name in stage.emit]
    automatic = pipeline.targets if any(stage.emit == "auto" for stage in stages) else pipeline.targets[:1]
    return frozenset([*names, *(name for target in automatic for name in emissions(target))])
