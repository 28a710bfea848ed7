"""What a report shows, as typed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.profiling.right import Right
from compress.profiling.statistics import LEAST_ROUNDS
from compress.report.flip_rows import Flips
from compress.report.int8_rows import Left, Operators, Quantized, Worth
from compress.report.pruned_rows import Pruned
from compress.report.target_rows import Target
from compress.report.words import metric_name

Interval = tuple[float, float]


@dataclass(frozen=True)
class Offline:
    """Throughput at one batch size, and millijoules of an example by source where the machine counts them."""

    batch: int
    examples_per_second: float
    millijoules: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Latency:
    """One file measured on one target at one batch. Times in ms; `rounds_ms` holds each round's calls, if kept.

    p90 and p99 are None where they were not established: `why_not` says why, by the name of the field. In `mode` full
    they are upper bounds at 99 % confidence. Times that are `emulated` say nothing and are compared with none.
    `energy_mj` is what an example takes at the best batch size of `offline`, by source; `transfers_ms` the copies to
    and from a GPU where they are no part of the times.
    """

    target: str
    runtime: str
    threads: int | None
    batch: int
    shape: Any
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p50_ci95_ms: Interval | None
    samples: int | None
    throughput_per_s: float | None
    peak_memory_bytes: float | None
    load_ms: float | None
    speedup_ci95: Interval | None
    rounds_ms: tuple[tuple[float, ...], ...]
    p90_ci95_ms: Interval | None = None
    emulated: bool = False
    why_not: Mapping[str, str] = field(default_factory=dict)
    mode: str | None = None
    offline: tuple[Offline, ...] = ()
    energy_mj: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_bytes: float | None = None
    transfers_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_few_rounds(self) -> bool:
        """Whether there were too few rounds for intervals."""
        return 0 < len(self.rounds_ms) < LEAST_ROUNDS

    @property
    def best_offline(self) -> Offline | None:
        """The batch size with the most examples a second."""
        return max(self.offline, key=lambda bulk: bulk.examples_per_second, default=None)


@dataclass(frozen=True)
class Model:
    """A model on the way (`kind` torch) or a file to deploy; `parent` is the row that it was made from.

    `operators` are those of the main target, `operators_by_target` of others.
    """

    name: str
    stage: str
    kind: str
    precision: str | None
    profile: str | None
    path: str | None
    sha256: str | None
    size_bytes: float | None
    parameters: int | None
    macs: int | None
    int8_share: float | None
    metrics: Mapping[str, Any]
    validation: Mapping[str, Any]
    latency: tuple[Latency, ...]
    parent: str | None
    parity: Mapping[str, Any]
    not_int8: tuple[Left, ...]
    pruned: Pruned | None
    quantized: Quantized | None
    operators: tuple[Operators, ...]
    by_target: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    operators_by_target: Mapping[str, tuple[Operators, ...]] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether this is a file to deploy, not a PyTorch model on the way to one."""
        return self.kind in ("onnx", "engine")

    def on(self, target: str | None) -> Latency | None:
        """The latency at the smallest batch on a target; None where it was not measured."""
        measured = [latency for latency in self.latency if latency.target == target]
        return min(measured, key=lambda latency: latency.batch, default=None)

    def judged_on(self, target: str | None) -> Mapping[str, Any]:
        """The metrics of the answers that were given on a target; `metrics` where no other target has answered."""
        return self.by_target.get(target or "", {} if self.by_target else self.metrics)

    def in_bulk_on(self, target: str | None) -> Latency | None:
        """The measurement at the largest batch on a target that tells a throughput."""
        measured = [item for item in self.latency if item.target == target and item.throughput_per_s is not None]
        return max(measured, key=lambda latency: latency.batch, default=None)


@dataclass(frozen=True)
class Requirement:
    """A line of the budget and what the chosen file has."""

    name: str
    limit: float
    value: float | None
    met: bool
    target: str | None


@dataclass(frozen=True)
class Step:
    """A step of the plan: what it took, or that its result was already there."""

    name: str
    stage: str
    key: str
    seconds: float | None
    reused: bool


@dataclass(frozen=True)
class Report:
    """All that a report shows. `metric` is the primary one; `target` the one that comparisons are made on.

    `reference_row` names the reference's own float file, `judged` the file that the budget's lines are about; `int8`
    tells whether int8 pays. `split` is the data that `metrics` are of: `test`, or `given` samples that also chose.
    `places` tells of each target what it is and what to deploy there; `card` is what the pipeline says for the model
    card, by the names of its settings; `right` tells which test examples the judged file answers rightly.
    """

    name: str
    met: bool
    reference: str
    deploy: str | None
    models: tuple[Model, ...]
    budget: tuple[Requirement, ...]
    steps: tuple[Step, ...]
    environment: Mapping[str, Any]
    metric: str
    higher_is_better: bool
    target: str | None
    deploy_reason: str
    reference_row: str | None
    judged: str | None
    notes: tuple[str, ...]
    int8: Worth | None
    split: str
    task: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    places: tuple[Target, ...] = ()
    flips: Flips | None = None
    card: Mapping[str, str] = field(default_factory=dict)
    right: Right | None = None

    @property
    def files(self) -> tuple[Model, ...]:
        """The rows that can be deployed."""
        return tuple(model for model in self.models if model.is_file)

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target that something was measured on, the main one first."""
        seen = [latency.target for model in self.models for latency in model.latency]
        return tuple(dict.fromkeys([self.target, *seen] if self.target else seen))

    def place(self, target: str | None) -> Target | None:
        """What is known of a target."""
        return next((place for place in self.places if place.name == target), None)

    def is_emulated(self, target: str | None) -> bool:
        """Whether times on a target are those of an emulator, which are compared with none."""
        place = self.place(target)
        marked = any(item.emulated for model in self.models for item in model.latency if item.target == target)
        return marked or (place is not None and place.emulated)

    @property
    def judged_name(self) -> str:
        """What `metrics` hold, as a word: `test accuracy`, or `agreement` on samples that are no test data."""
        return f"test {metric_name(self.metric)}" if self.split == "test" else metric_name(self.metric)

    @property
    def deployed(self) -> Model | None:
        """The row to deploy."""
        return self.row(self.deploy)

    def deployed_on(self, target: str | None) -> Model | None:
        """The row to deploy on a target; that of the main one where nothing was decided for it."""
        place = self.place(target)
        if place is None:
            return self.deployed
        return self.row(place.deploy)

    @property
    def reference_file(self) -> Model | None:
        """The reference's own float file: its name holds the reference's, its stage is `train` or `export`."""
        exact = self.row(self.reference_row) or self.row(self.reference)
        if exact is not None and exact.is_file:
            return exact
        named = [row for row in self.files if self.reference in row.name and row.stage in ("train", "export")]
        return min(
            named, key=lambda row: (row.precision != "fp32", not row.name.startswith(self.reference)), default=None
        )

    @property
    def candidates(self) -> tuple[Model, ...]:
        """Files measured on the main target, other than the reference's, fastest first."""
        timed = [(latency.p50_ms, row) for row in self.files if (latency := row.on(self.target)) is not None]
        fastest_first = [row for _, row in sorted(timed, key=lambda pair: pair[0])]
        return tuple(row for row in fastest_first if row is not self.reference_file)

    @property
    def told(self) -> Model | None:
        """The file that a report tells of: the deployed one, else that which came nearest, else the fastest."""
        return self.deployed or self.row(self.judged) or next(iter(self.candidates), None)

    def lineage(self) -> tuple[Model, ...]:
        """The way from the reference to the file that the report tells of, by the measured file of each stage."""
        end = self.told or next(iter(self.models[::-1]), None)
        chain: list[Model] = []
        while end is not None and end not in chain:
            chain.insert(0, end)
            end = self.row(end.parent)
        start = self.reference_file
        if start is not None and not any(row in (start, self.row(start.parent)) for row in chain):
            chain.insert(0, start)
        shown = {row.name: row for row in map(self._measured, chain)}
        return tuple(shown.values())

    def _measured(self, model: Model) -> Model:
        """The file that was made of a model right behind its stage, if it is measured and the model is not."""
        if model.on(self.target) is not None:
            return model
        files = [row for row in self.files if row.parent == model.name and row.stage == model.stage]
        return next((row for row in files if row.on(self.target) is not None), model)

    def row(self, name: str | None) -> Model | None:
        """The row of that name."""
        return next((model for model in self.models if model.name == name), None)


def ends(pair: Sequence[float | None] | None) -> Interval | None:
    """An interval's two ends; None if it or one end is absent."""
    if pair is None or len(pair) != 2 or pair[0] is None or pair[1] is None:
        return None
    return (float(pair[0]), float(pair[1]))
