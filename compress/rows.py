"""Rows of the report: networks and the files made of them, and for each the steps that make and measure it.

Every row is evaluated, networks on the first target and files on all; all files of a target are profiled together. On
a target with TensorRT what is measured is not a file but an engine that is built of it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from compress.bundle import Kind
from compress.errors import UsageError
from compress.exporting.stage import Export
from compress.profiling.stage import Evaluate, Profile
from compress.steps import Step, Steps, unused
from compress.targets import tensorrt_settings
from compress.targets.settings import TargetSettings
from compress.targets.stage import Engine


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


class Rows:
    """The rows of a pipeline by name, in its order; what measures them is added to its steps."""

    def __init__(self, steps: Steps) -> None:
        self.named: dict[str, Row] = {}
        self._steps = steps

    def add_network(self, name: str, step: Step, verb: str, source: str) -> None:
        """The row of a network that a stage made of what the step `source` gave."""
        parent = next((row.name for row in self.named.values() if row.step == source), None)
        kind = step.stage.gives or Kind.TORCH
        self.named[name] = Row(name, step.name, verb, kind, step.name, parent)

    def add_file(self, stage: Export, source: str, verb: str, model: str) -> Row:
        """The step and row of one ONNX file of what the step `source` gave; one that is there keeps its row.

        `model` names a file of a network that has no row of its own.
        """
        emission = stage.emit[0]
        network = next((row for row in self.named.values() if row.step == source and row.kind is not Kind.ONNX), None)
        step = self._steps.add(unused(f"{source}.{emission}", self._steps.named), stage, {"source": source})
        known = next((row for row in self.named.values() if row.step == step.name), None)
        if known is None:
            name = unused(f"{network.name if network else model}-{emission}", self.named)
            known = Row(name, step.name, verb, Kind.ONNX, source, network.name if network else None, emission)
            self.named[name] = known
        return known

    def measure(self, reference: str, targets: Sequence[TargetSettings]) -> None:
        """Evaluations of all rows (`reference` first: others are compared with it), and a profile for each target."""
        names = [reference, *(name for name in self.named if name != reference)]
        for target in targets:
            files = {}
            for name in names:
                is_file = self.named[name].kind is Kind.ONNX
                if not is_file and target is not targets[0]:
                    continue
                measured = self._runs_on(target, self.named[name])
                if measured is None:
                    continue
                self._evaluate(name, measured, reference, target)
                if is_file:
                    files[name] = measured
            profile = self._steps.add(f"profile on {target.name}", Profile(), files, target)
            for name in files:
                row = self.named[name]
                self.named[name] = replace(row, profiles={**row.profiles, target.name: profile.name})

    def _runs_on(self, target: TargetSettings, row: Row) -> str | None:
        """The step that gives what runs on a target: the row's own, or an engine of it; None if it cannot run there."""
        if row.kind is not Kind.ONNX or target.runtime != tensorrt_settings.RUNTIME:
            return row.step
        if row.emission not in tensorrt_settings.EMISSIONS:
            return None
        engine = f"{row.name} engine on {target.name}"
        return self._steps.add(engine, Engine.of(target), {"source": row.step}, target).name

    def _evaluate(self, name: str, measured: str, reference: str, target: TargetSettings) -> None:
        """The step that evaluates on a target what the step `measured` gave for a row."""
        inputs = {"source": measured}
        if name != reference:
            inputs["reference"] = self.named[reference].evaluations[target.name]
        step = self._steps.add(f"{name} on {target.name}", Evaluate(), inputs, target)
        row = self.named[name]
        self.named[name] = replace(row, evaluations={**row.evaluations, target.name: step.name})

    def drop_unmeasured(self, targets: Sequence[TargetSettings]) -> None:
        """Files of which no target there says anything have no place in a report.

        Args:
            targets: all of the pipeline, also those that are away.

        Raises:
            UsageError: no target would say anything of a file if it were there.
        """
        for row in [row for row in self.named.values() if row.kind is Kind.ONNX and not row.evaluations]:
            if all(target.runtime == tensorrt_settings.RUNTIME for target in targets):
                raise UsageError(
                    f"no target runs {row.emission}: TensorRT reads {', '.join(tensorrt_settings.EMISSIONS)}; leave it "
                    "out of `emit`, or add a target with `runtime: onnxruntime`"
                )
            del self.named[row.name]
