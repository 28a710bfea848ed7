"""Pruning to a measured time: what the fastest reachable is, what to remove for what was asked, and whether it came.

Layers are timed once by the runtime (`compress.pruning.latency`), what goes is chosen by a knapsack over time and
importance, and the resulting file is measured before anything is trained: where it misses, the choice is mended.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from onnx import ModelProto
from torch import Tensor, nn

from compress.bundle import Deployment
from compress.errors import UsageError
from compress.pruning.approach import NEAR, Approach
from compress.pruning.cost_search import LEVELS, Search
from compress.pruning.depth import drop_blocks
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.latency.cached import ShapeFile, table_for, times_for
from compress.pruning.latency.files import Measured, measure_files, timing_file
from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.measure import Widths
from compress.pruning.latency.model import Anchor, TimeModel
from compress.pruning.latency.structure import structure
from compress.pruning.noted import Noted
from compress.pruning.phases import Recall
from compress.pruning.prunable import Prunable
from compress.pruning.prune import PruneLog
from compress.pruning.settings import Pruning
from compress.pruning.shape import Shape
from compress.pruning.surgery import cut
from compress.pruning.timing import Timing
from compress.stage import Progress
from compress.targets.emissions import CALIBRATED_EMISSIONS
from compress.targets.settings import TargetSettings
from compress.targets.target import emissions

FAR = 1.1
"""How much slower than asked a file may stay, in the end, without a word."""
OVER = "whole, in fp32"
"""The name of the file that a speed-up of another precision is over."""


@dataclass(frozen=True)
class Where:
    """On what, and as what file, times are measured. `quick` is for rehearsals: choices are not measured."""

    target: TargetSettings
    deployment: Deployment
    progress: Progress
    quick: bool = False


@dataclass(frozen=True)
class Ends:
    """Milliseconds of the whole network and of the fastest one; `over_ms` in fp32, where a speed-up is over that."""

    whole_ms: float
    floor_ms: float
    over_ms: float | None

    @property
    def base_ms(self) -> float:
        """What a speed-up is over."""
        return self.whole_ms if self.over_ms is None else self.over_ms


@dataclass(frozen=True)
class Choice:
    """Units to remove by group, blocks to drop, and how that was timed."""

    removed: dict[str, list[int]]
    dropped: tuple[str, ...]
    timing: Timing

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Choice:
        """The inverse of `plain`, after a trip through JSON."""
        layers = {name: tuple(pair) for name, pair in data["timing"]["layers"].items()}
        tries = tuple(tuple(pair) for pair in data["timing"]["tries"])
        timing = {**data["timing"], "layers": layers, "dropped": tuple(data["timing"]["dropped"]), "tries": tries}
        return cls(data["removed"], tuple(data["dropped"]), Timing(**timing))


def prune_to_time(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    settings: Pruning,
    where: Where,
    given: Given,
    recall: Recall[dict[str, Any]],
    noted: Noted | None = None,
) -> PruneLog:
    """Remove channels and blocks from `module`, in place, until its file takes the time that `settings.reach` names.

    Args:
        module: its modes are kept.
        example_inputs: inputs of at least one example, of the size at which files are timed.
        settings: what may be removed, and how fast the file shall be.
        where: the target, and the deployment that files are written for.
        given: what importance is judged by.
        recall: gives the choice as plain data.
        noted: distances of choices that were judged before it was interrupted.

    Raises:
        UsageError: the time is out of reach (says what the fastest is); as `prune_module`.
        StageError: the network cannot be exported, or fails when it is run.
    """
    network = Prunable.find(module, example_inputs, settings, given.seed)
    reach = Reach(network, settings, where)
    choice = Choice.from_plain(recall(lambda: reach.choose(given, noted or Noted()).plain()))
    done = network.without(choice.removed, given.seed, choice.dropped, given.batches if settings.reconstruct else ())
    return PruneLog(
        measure="latency_p50_ms",
        asked=choice.timing.wanted_ms,
        reached=choice.timing.measured_ms,
        fixed=network.fixed,
        timing=choice.timing,
        **vars(done),
    )


class Reach:
    """One network on its way to a time.

    Args:
        network: left as it is.
        settings: with `reach`.
        where: the target.
    """

    def __init__(self, network: Prunable, settings: Pruning, where: Where) -> None:
        assert settings.reach is not None
        self.network, self.where, self.asked = network, where, settings.reach
        self.emission = emission_for(where.target, settings.reach.precision)
        self.layers = network.layers()
        self.search = Search(network, settings)
        self._wholes: dict[str, ModelProto] = {}

    def choose(self, given: Given, noted: Noted) -> Choice:
        """What to remove for the time that was asked, its file measured.

        Raises:
            UsageError: the time is out of reach; says what the fastest is.
            StageError: the network cannot be exported, or fails when it is run.
        """
        model, ends = self._timed()
        wanted = self.asked.latency_p50_ms or ends.base_ms / float(self.asked.speedup or 1)
        self._check(wanted, ends)
        approach = Approach(
            self.search, model, wanted, given,
            None if self.where.quick else lambda removed, shape: self._measured(removed, shape, ends),
            self.where.progress, noted,
        )  # fmt: skip
        best = approach.run()
        if best.measured > wanted * FAR:
            self.where.progress.say(
                f"the nearest file that was found takes {best.measured:.3g} ms, {wanted:.3g} ms were asked"
            )
        worth = self.search.worth(best.removed, best.shape.dropped, given)
        timing = replace(
            self._timing(model, best.shape, (ends.whole_ms, wanted, ends.floor_ms), best.predicted, best.measured),
            over_ms=ends.over_ms,
            importance={layer.name: worth[layer.name] for layer in self.layers if layer.name in worth},
            tries=tuple((attempt.predicted, attempt.measured) for attempt in approach.attempts),
        )
        return Choice(best.removed, tuple(sorted(best.shape.dropped)), timing)

    def _timed(self) -> tuple[TimeModel, Ends]:
        """The model of time, fitted to the whole network, the fastest one and some between; and how long those take."""
        where = self.where
        table = table_for(self._widths(), where.target, self.emission, self.asked.batch, where.progress)
        floor = self.search.floor
        shapes = {"whole": self.search.whole, "middle": self.search.middle, "narrow": Shape(floor.kept)}
        shapes |= {"floor": floor} if floor.dropped else {}
        batch, module = self.asked.batch, self.network.module
        what = f"{structure(module, self.network.inputs)} {self.search.settings.attention}"
        files = {name: ShapeFile(shape, self.emission) for name, shape in shapes.items()}
        if self.asked.over not in (None, self.emission):
            files[OVER] = ShapeFile(self.search.whole, self.asked.over)
        times = times_for(what, files, where.target, batch, lambda: self._times(files), where.progress)
        over_ms = times.pop(OVER, None)
        anchors = [Anchor(shapes[name], ms) for name, ms in times.items()]
        return TimeModel(self.layers, table, anchors), Ends(times["whole"], min(times.values()), over_ms)

    def _times(self, files: Mapping[str, ShapeFile]) -> Measured:
        """Files of these shapes, whichever units they keep."""
        where, graphs = self.where, {}
        with where.progress.task("writing files to time", len(files)) as advance:
            for name, file in files.items():
                left = file.shape
                removed = {g.name: list(range(g.units - left.kept[g.name])) for g in self.network.groups}
                is_whole = left == self.search.whole
                graphs[name] = (
                    self._whole(file.emission) if is_whole else self._file(removed, left.dropped, file.emission)
                )
                advance(1)
        return measure_files(graphs, where.deployment, where.target, self.asked.batch, where.progress)

    def _check(self, wanted: float, ends: Ends) -> None:
        asked, place = self.asked, f"on {self.where.target.name}"
        on = f"{place} in {asked.precision} at batch {asked.batch}"
        if wanted >= ends.whole_ms and asked.speedup is None:
            raise UsageError(
                f"prune.reach.latency_p50_ms: the whole network takes {ends.whole_ms:.3g} ms {on}, no more than the "
                f"{wanted:g} ms asked: nothing has to go. Ask for less time, or leave `prune` out"
            )
        if wanted >= ends.whole_ms:
            raise UsageError(
                f"prune.reach.speedup: the whole network is {ends.base_ms / ends.whole_ms:.2f}x faster in "
                f"{asked.precision} than in {asked.over} {place} at batch {asked.batch}, no less than the "
                f"{asked.speedup:g}x asked: nothing has to go. Ask for more, or leave `prune` out"
            )
        if ends.floor_ms <= wanted * (1 + NEAR):
            return
        key, what = "latency_p50_ms", f"{wanted:g} ms"
        if asked.speedup is not None:
            key, what = "speedup", f"{asked.speedup:g}x ({wanted:.3g} ms)"
        depth = "" if self.search.settings.drops_blocks else ", or let whole blocks go with `depth: true`"
        base = f"{ends.base_ms:.3g} ms" if ends.over_ms is None else f"{ends.base_ms:.3g} ms in {asked.over}"
        raise UsageError(
            f"prune.reach.{key}: {what} is out of reach {on}: the fastest reachable is {ends.floor_ms:.3g} ms, "
            f"{ends.base_ms / ends.floor_ms:.2f}x faster than the whole network's {base}. Ask for that, or lower "
            f"`minimum_share` or `round_to`{depth}"
        )

    def _widths(self) -> Widths:
        """The channel counts that each kind of layer may get."""
        found: dict[LayerKind, tuple[set[int], set[int]]] = {}
        for layer in self.layers:
            inputs, outputs = found.setdefault(layer.kind, (set(), set()))
            for level in range(LEVELS):
                kept = self.search.kept_at(level)
                inputs.add(layer.inputs.left(kept))
                outputs.add(layer.outputs.left(kept))
        joint = {layer.kind for layer in self.layers if layer.joint}
        return {k: (() if k in joint else tuple(sorted(i)), tuple(sorted(o))) for k, (i, o) in found.items()}

    def _whole(self, emission: str) -> ModelProto:
        if emission not in self._wholes:
            self._wholes[emission] = self._file({}, frozenset(), emission)
        return self._wholes[emission]

    def _file(self, removed: Chosen, dropped: frozenset[str], emission: str) -> ModelProto:
        pruned = copy.deepcopy(self.network.module).cpu()
        cut(pruned, self.network.groups, removed)
        drop_blocks(pruned, sorted(dropped))
        return timing_file(pruned, self.where.deployment, emission)

    def _measured(self, removed: Chosen, shape: Shape, ends: Ends) -> float:
        """Milliseconds on the scale of the first measurement: what a speed-up is over is measured beside it again."""
        where = self.where
        graphs = {"whole": self._whole(self.emission)} if ends.over_ms is None else {OVER: self._whole("fp32")}
        graphs["choice"] = self._file(removed, shape.dropped, self.emission)
        found = measure_files(graphs, where.deployment, where.target, self.asked.batch, where.progress)
        return ends.base_ms / found["choice"][1]

    def _timing(
        self, model: TimeModel, shape: Shape, known: tuple[float, float, float], predicted: float, measured: float
    ) -> Timing:
        before, after = model.layer_ms(self.search.whole), model.layer_ms(shape)
        layers = {name: (ms, after.get(name, 0.0)) for name, ms in before.items()}
        noise = max(grid.noise for grid in model.table.grids.values())
        return Timing(
            self.where.target.name, self.asked.precision, self.asked.batch, *known, predicted, measured,
            tuple(sorted(shape.dropped)), layers, noise,
        )  # fmt: skip


def emission_for(target: TargetSettings, precision: str) -> str:
    """The emission of a precision on a target.

    Raises:
        UsageError: the target runs no int8 files.
    """
    if precision == "fp32":
        return "fp32"
    found = next((name for name in emissions(target) if name in CALIBRATED_EMISSIONS), None)
    if found is None:
        raise UsageError(f"prune.reach.precision: the target {target.name} runs no int8 files")
    return found
