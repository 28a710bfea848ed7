"""Pruning to a time: where time is known, and once where it is measured.

But for the last test three functions are stood in for: a "file" is the network itself (`timing_file`), its time
(`measure_files`) and the table (`table_for`) are a function of its channels. So nothing is noisy, and what a choice
takes can be told by hand.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import compress
from compress.bundle import Deployment
from compress.errors import UsageError
from compress.models.count import count_macs
from compress.models.zoo.table import build_zoo
from compress.pruning.approach import NEAR, SIDE_TRIES, TRIES
from compress.pruning.importance.measures import Given
from compress.pruning.latency.files import Measured
from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.table import Grid, LatencyTable
from compress.pruning.noted import Noted
from compress.pruning.prunable import Prunable
from compress.pruning.prune import PruneLog
from compress.pruning.reach import Choice, Reach, Where, emission_for, prune_to_time
from compress.pruning.settings import Pruning
from compress.stage import Silent
from compress.targets.settings import TargetSettings

SIZE = (3, 16, 16)
EXAMPLE = (torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1)),)


def microseconds(kind: LayerKind, inputs: int, outputs: int) -> float:
    """What a layer takes: something for itself, and for each product."""
    places = kind.size[0] ** 2 / (kind.stride[0] ** 2 if kind.stride else 1) if len(kind.size) == 2 else kind.size[0]
    return 3.0 + inputs * outputs * (kind.kernel[0] ** 2 if kind.kernel else 1) * places / 1e4


@dataclass
class Machine:
    """Stands in for the runtime: `slower` is what a file takes beside what its layers take by the table.

    `jump` is how many times as long a network takes as that.
    """

    slower: Callable[[float], float] = lambda ms: ms
    jump: Callable[[Any], float] = lambda module: 1.0
    drift: float = 1.0
    kinds: dict[str, LayerKind] = field(default_factory=dict)
    runs: list[list[str]] = field(default_factory=list)

    def table_for(
        self, widths: Mapping[LayerKind, Any], target: Any, emission: str, batch: int, _: Any
    ) -> LatencyTable:
        """The table, without noise."""
        grids = {
            kind: Grid(kind, tuple(i), tuple(o), tuple(tuple(microseconds(kind, a, b) for b in o) for a in i), 0.0)
            for kind, (i, o) in widths.items()
        }
        return LatencyTable(batch, grids)

    def file(self, module: nn.Module, deployment: Deployment, emission: str) -> nn.Module:
        """A network is its own file; as int8 it takes a third."""
        file = copy.deepcopy(module)
        vars(file)["part"] = 1 if emission == "fp32" else 1 / 3
        return file

    def measure(self, graphs: Mapping[str, nn.Module], *_: Any) -> Measured:
        """Milliseconds, `drift` times as many at each further run; and how many times faster than the first."""
        times = {name: self.drift ** len(self.runs) * self.ms(graph) for name, graph in graphs.items()}
        self.runs.append(list(graphs))
        first = next(iter(times.values()))
        return Measured({name: (ms, first / ms) for name, ms in times.items()})

    def ms(self, module: nn.Module) -> float:
        """What a network takes."""
        total = 0.0
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Conv2d):
                total += microseconds(self.kinds[name], layer.in_channels, layer.out_channels)
            elif isinstance(layer, nn.Linear):
                total += microseconds(self.kinds[name], layer.in_features, layer.out_features)
        return self.slower(total / 1000) * self.jump(module) * float(vars(module).get("part", 1))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine()
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("compress.pruning.candidates.SHORT", 2)  # which choice of a time is best is not looked at here
    monkeypatch.setattr("compress.pruning.candidates.LONG", 4)
    for name, stand_in in (
        ("table_for", machine.table_for), ("timing_file", machine.file), ("measure_files", machine.measure),
    ):  # fmt: skip
        monkeypatch.setattr(f"compress.pruning.reach.{name}", stand_in)
    yield machine


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_zoo("resnet14", num_classes=5, in_channels=3, width=2.0, shortcut="B").eval()


def given() -> Given:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 4, *SIZE, generator=generator)
    batches = [((part,), torch.randint(0, 5, (4,), generator=generator)) for part in images]
    return Given(batches, functional.cross_entropy)


def where(*, quick: bool = False) -> Where:
    return Where(TargetSettings(), Deployment({}, (), ()), Silent(), quick)


def pruning(reach: dict[str, Any], **more: Any) -> Pruning:
    usual = {"round_to": 4, "rounds": 1, "candidates": 4, "reconstruct": False}
    return Pruning.model_validate({"reach": reach, **usual, **more})


def opened(machine: Machine, settings: Pruning, *, quick: bool = False) -> tuple[nn.Module, Reach]:
    module = network()
    reach = Reach(Prunable.find(module, EXAMPLE, settings), settings, where(quick=quick))
    machine.kinds = {layer.name: layer.kind for layer in reach.layers}
    return module, reach


def pruned(machine: Machine, settings: Pruning) -> tuple[nn.Module, PruneLog]:
    module, _ = opened(machine, settings)
    log = prune_to_time(module, EXAMPLE, settings, where(), given(), lambda choose: choose())
    return module, log


@pytest.mark.parametrize("more", [{"reconstruct": True}, {"depth": False}, {"depth": False, "importance": "magnitude"}])
@pytest.mark.parametrize("speedup", [1.3, 2.0, 4.0])
def test_the_time_is_reached(speedup: float, more: dict[str, Any], machine: Machine) -> None:
    module, log = pruned(machine, pruning({"speedup": speedup}, **more))
    timing = log.timing
    assert timing is not None
    assert timing.whole_ms == pytest.approx(machine.ms(network()))
    assert timing.wanted_ms == log.asked == pytest.approx(timing.whole_ms / speedup)
    assert timing.measured_ms == log.reached == pytest.approx(machine.ms(module))
    assert timing.measured_ms == pytest.approx(timing.wanted_ms, rel=0.1)
    assert timing.predicted_ms == pytest.approx(timing.measured_ms, rel=0.05)
    assert module(*EXAMPLE).shape == (2, 5)
    assert log.after["macs"] < log.before["macs"]


def test_a_time_in_milliseconds_is_reached(machine: Machine) -> None:
    opened(machine, pruning({"speedup": 2}))
    wanted = 0.6 * machine.ms(network())
    module, log = pruned(machine, pruning({"latency_p50_ms": wanted}, depth=False))
    assert log.asked == wanted
    assert machine.ms(module) == pytest.approx(wanted, rel=NEAR)


@pytest.mark.parametrize(
    "slower",
    [
        lambda ms: 1.5 * ms,
        lambda ms: ms + 0.3,
        lambda ms: ms**0.7,  # the narrower the layers, the worse they use the processor
    ],
)
def test_a_model_that_is_wrong_is_mended(slower: Callable[[float], float], machine: Machine) -> None:
    machine.slower = slower
    module, log = pruned(machine, pruning({"speedup": 1.4}, depth=False))
    assert machine.ms(module) == pytest.approx(log.asked, rel=NEAR)
    assert log.timing is not None and len(log.timing.tries) == len(machine.runs) - 1
    assert (log.timing.predicted_ms, log.timing.measured_ms) in log.timing.tries
    assert 2 <= len(machine.runs) <= 1 + TRIES
    assert all(run == ["whole", "choice"] for run in machine.runs[1:])


@pytest.mark.parametrize("speedup", [1.3, 1.6, 2.0, 2.6])
def test_a_jump_is_approached_from_either_side(speedup: float, machine: Machine) -> None:
    """All of a network runs 1.7 times faster once its first tensors are narrow enough, as if a cache then held them."""
    machine.jump = lambda module: 1.0 if module.conv1.out_channels <= 20 else 1.7
    module, log = pruned(machine, pruning({"speedup": speedup}))
    assert machine.ms(module) == pytest.approx(log.asked, rel=0.06)
    assert log.timing is not None and log.timing.predicted_ms == pytest.approx(machine.ms(module), rel=0.1)
    assert len(machine.runs) <= 1 + TRIES + 2 * SIDE_TRIES


def test_a_machine_that_becomes_slower_changes_nothing(machine: Machine) -> None:
    steady = pruned(machine, pruning({"speedup": 1.5}))[1]
    machine.runs.clear()
    machine.drift = 1.7
    assert pruned(machine, pruning({"speedup": 1.5}))[1].timing == steady.timing


@pytest.mark.parametrize(
    ("reach", "says"),
    [
        ({"speedup": 1000}, "prune.reach.speedup: 1000x "),
        ({"latency_p50_ms": 1e-4}, "prune.reach.latency_p50_ms: 0.0001 ms is"),
        ({"speedup": 1000, "batch": 8}, "in fp32 at batch 8: "),
    ],
)
@pytest.mark.parametrize("depth", [True, False])
def test_what_is_out_of_reach_names_the_fastest(
    depth: bool, reach: dict[str, Any], says: str, machine: Machine
) -> None:
    settings = pruning(reach, depth=depth, minimum_share=0.25)
    module, opening = opened(machine, settings)
    with pytest.raises(UsageError) as caught:
        opening.choose(given(), Noted())
    floor = opening.search.floor
    groups = opening.network.groups
    removed = {group.name: list(range(group.units - floor.kept[group.name])) for group in groups}
    graph: Any = opening._file(removed, floor.dropped, "fp32")
    fastest, whole = machine.ms(graph), machine.ms(module)
    message = str(caught.value)
    assert says in message
    assert f"the fastest reachable is {fastest:.3g} ms, {whole / fastest:.2f}x faster" in message
    assert ("`depth: true`" in message) == (not depth)
    assert bool(floor.dropped) == depth


def test_a_time_that_the_whole_network_keeps_is_refused(machine: Machine) -> None:
    with pytest.raises(UsageError, match=r"prune.reach.latency_p50_ms: the whole network takes .* nothing has to go"):
        pruned(machine, pruning({"latency_p50_ms": 1e6}))


INT8 = {"precision": "int8", "over": "fp32"}


@pytest.mark.parametrize("speedup", [4.0, 6.0])
def test_what_int8_gains_counts_where_it_is_over_fp32(speedup: float, machine: Machine) -> None:
    module, log = pruned(machine, pruning({"speedup": speedup, **INT8}))
    timing = log.timing
    assert timing is not None and timing.over_ms is not None
    assert machine.runs[0] == ["whole", "middle", "narrow", "floor", "whole, in fp32"]
    assert timing.over_ms == pytest.approx(machine.ms(network())) == pytest.approx(3 * timing.whole_ms)
    assert timing.wanted_ms == pytest.approx(timing.over_ms / speedup)
    assert machine.ms(module) / 3 == pytest.approx(timing.measured_ms)
    assert timing.measured_ms == pytest.approx(timing.wanted_ms, rel=0.1)
    assert machine.runs[1:] == [["whole, in fp32", "choice"]] * len(timing.tries) != []


def test_over_the_same_precision_is_what_is_usual(machine: Machine) -> None:
    usual, over = (pruned(machine, pruning({"speedup": 2, **more}))[1] for more in ({}, {"over": "fp32"}))
    assert usual == over and over.timing is not None and over.timing.over_ms is None


def test_a_speedup_that_int8_alone_gives_or_that_nothing_gives_is_refused(machine: Machine) -> None:
    says = "the whole network is 3.00x faster in int8 than in fp32 on local at batch 1, no less than the 2.5x asked"
    with pytest.raises(UsageError, match=re.escape(f"prune.reach.speedup: {says}: nothing has to go")):
        pruned(machine, pruning({"speedup": 2.5, **INT8}))
    whole = machine.ms(network())
    with pytest.raises(UsageError, match=rf"x faster than the whole network's {whole:.3g} ms in fp32\. Ask for that"):
        pruned(machine, pruning({"speedup": 1000, **INT8}))


def test_a_rehearsal_measures_no_choice(machine: Machine) -> None:
    _, reach = opened(machine, pruning({"speedup": 2}), quick=True)
    choice = reach.choose(given(), Noted())
    assert machine.runs == [["whole", "middle", "narrow", "floor"]]
    assert choice.timing.measured_ms == choice.timing.predicted_ms


def test_the_log_says_what_went(machine: Machine) -> None:
    module, log = pruned(machine, pruning({"speedup": 3}))
    assert log.timing is not None and log.dropped == log.timing.dropped != ()
    for path in log.dropped:
        assert isinstance(module.get_submodule(path), nn.Identity)
        assert log.widths[f"{path}.conv1"][1] == log.timing.layers[f"{path}.conv1"][1] == 0
    for path, (before, after) in log.timing.layers.items():
        if isinstance(layer := module.get_submodule(path) if after else None, nn.Conv2d):
            kind = machine.kinds[path]
            assert 1000 * after == pytest.approx(microseconds(kind, layer.in_channels, layer.out_channels), rel=0.05)
            assert before >= after > 0
    assert log.after["macs"] == count_macs(module, (EXAMPLE[0][:1],))
    assert set(log.timing.importance) <= set(log.timing.layers)


def test_a_choice_that_was_made_is_made_again_without_measuring(machine: Machine) -> None:
    settings, kept = pruning({"speedup": 2}), []

    def keep(choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        kept.append(json.dumps(choose()))
        return dict(json.loads(kept[0]))

    module, _ = opened(machine, settings)
    again, _ = opened(machine, settings)
    log = prune_to_time(module, EXAMPLE, settings, where(), given(), keep)
    machine.runs.clear()
    assert prune_to_time(again, EXAMPLE, settings, where(), given(), lambda choose: json.loads(kept[0])) == log
    assert machine.runs == []
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), again.parameters(), strict=True))


def test_a_choice_survives_json(machine: Machine) -> None:
    choice = opened(machine, pruning({"speedup": 2}))[1].choose(given(), Noted())
    assert Choice.from_plain(json.loads(json.dumps(choice.plain()))) == choice


def test_int8_needs_a_target_that_runs_it() -> None:
    assert emission_for(TargetSettings(emit=("fp32", "ort-arm")), "int8") == "ort-arm"
    assert emission_for(TargetSettings(emit=("fp16", "bf16", "ort-x86")), "int8") == "ort-x86"
    assert emission_for(TargetSettings(emit=("ort-x86",)), "fp32") == "fp32"
    with pytest.raises(UsageError, match=r"prune.reach.precision: the target board runs no int8 files"):
        emission_for(TargetSettings(name="board", emit=("fp32",)), "int8")


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def plain(width: int) -> nn.Module:
    """Convolutions of one width, whose time is that of their products."""
    convolutions: list[nn.Module] = []
    for inputs in (1, width, width):
        convolutions += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def test_a_real_file_becomes_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.pruning.approach.NEAR", 0.2)  # or a busy machine makes it try again
    monkeypatch.setattr("compress.pruning.latency.files.AGAIN", 1)
    target = tmp_path / "here.yaml"
    target.write_text("{rounds: 2, warmup_seconds: 0.0, seconds: 0.05, throughput_seconds: 0.001}\n")
    module, told = plain(96), Told()
    data = compress.load_data({"source": {"digits": {}}, "limit": {"train": 64, "validation": 16, "test": 16}})
    faster = compress.prune(
        module, data, reach={"speedup": 1.5, "target": str(target)}, recover=None, importance="magnitude", depth=False,
        candidates=1, examples=32, threads=1, progress=told,
    )  # fmt: skip
    [line] = [line for line in told.lines if line.startswith("pruned from")]
    numbers = re.search(r"from (\S+) to (\S+) ms in fp32 at batch 1 on here \(asked ([^,]+),", line)
    assert numbers is not None, line
    whole, measured, asked = map(float, numbers.groups())
    assert asked == pytest.approx(whole / 1.5, rel=0.01)
    assert measured == pytest.approx(asked, rel=0.25)
    image: tuple[Tensor, ...] = (torch.zeros(1, 1, 8, 8),)
    assert 0.3 < count_macs(faster, image) / count_macs(module, image) < 0.9
    assert faster(*image).shape == (1, 10)
