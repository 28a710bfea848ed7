"""Files for timing: a network's graph as it would be deployed, whose numbers mean nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import median

import numpy as np
from onnx import ModelProto
from torch import nn

from compress.bundle import Deployment
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.torch_onnx import DEFAULT_OPSET, example_inputs, save, to_proto
from compress.profiling.conditions import BUSY, waiting_shares, was_busy
from compress.profiling.profile import profile
from compress.profiling.statistics import Samples, ratio_interval
from compress.stage import Progress
from compress.targets.settings import TargetSettings

NOMINAL_RANGE = (-6.0, 6.0)
"""Of every tensor, but for what a rectifier leaves of it: a scale does not change how long anything takes."""
NOMINAL_BITS = 7
"""Of a weight: all processors take those."""
SURE = 0.05
"""How far the ends of the 95 % interval of a file's ratio to the first one may lie from that ratio, relative, before
all are measured again beside what there is."""
AGAIN = 3
"""How often files are measured at most."""


@dataclass(frozen=True)
class Measured(Mapping[str, tuple[float, float]]):
    """Milliseconds of each file by its name, and how many times faster than the first one it is.

    `waited` is the part of its time that the process waited for a processor which other programs had, the median over
    rounds; `within` how far the ends of 95 % intervals lie from these ratios, relative.
    """

    times: Mapping[str, tuple[float, float]]
    waited: float = 0.0
    within: float = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether these are the times of the files, and not of what else ran."""
        return self.waited <= BUSY

    def __getitem__(self, name: str) -> tuple[float, float]:
        return self.times[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.times)

    def __len__(self) -> int:
        return len(self.times)


def timing_file(module: nn.Module, deployment: Deployment, emission: str) -> ModelProto:
    """The graph of a float network as `emission` has it; an int8 one with ranges that nobody calibrated.

    Raises:
        StageError: the network cannot be exported.
    """
    if emission == "fp32":
        return to_proto(module, deployment, example_inputs(deployment))
    from compress.quantization.convert import canonical
    from compress.quantization.fake_quantize import FakeQuantize
    from compress.quantization.prepare import prepare

    prepared = prepare(module, example_inputs(deployment), weight_bits=NOMINAL_BITS)
    for part in prepared.modules():
        if isinstance(part, FakeQuantize):
            part.set_range(*NOMINAL_RANGE)
    return EMISSIONS[emission](canonical(prepared, deployment, example_inputs(deployment), DEFAULT_OPSET))


def measure_files(
    graphs: Mapping[str, ModelProto],
    deployment: Deployment,
    target: TargetSettings,
    batch: int,
    progress: Progress,
) -> Measured:
    """Measure files side by side.

    The median of each round of a fresh process, and of these the median: on a processor that was fast for some seconds
    and slow for others, ratios of medians of 8 rounds were within 6.5 %, of their lower quartiles within 11 %, of their
    minima within 10 % (one standard deviation). Until ratios are known within `SURE` there are more rounds, `AGAIN`
    times as many at most; where they are not known then, or other programs had the same processor cores, it is said.

    Raises:
        StageError: a file fails when it is run.
    """
    alone = target.model_copy(
        update={
            "batches": (batch,), "throughput_batch": batch, "throughput_seconds": 0.001, "also_threads": (),
            "mode": "quick",
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="compress-files-") as folder:
        files = {}
        for number, (name, graph) in enumerate(graphs.items()):
            files[name] = Path(folder) / f"{number}.onnx"
            save(graph, files[name])
        sizes = dict.fromkeys(files, deployment.extra.get("sizes", {}))
        rounds: dict[str, list[Samples]] = {name: [] for name in files}
        shares: list[float] = []
        within = inf
        for _ in range(AGAIN):
            found = profile(files, alone, sizes=sizes, progress=progress)
            for name, rows in found.items():
                rounds[name] += [np.asarray(samples) for samples in rows[0].rounds_ms]
            shares += waiting_shares(found.machine.get("rounds", ()))
            times = {name: median(float(np.median(samples)) for samples in of) for name, of in rounds.items()}
            first = next(iter(times.values()))
            ratios = {name: first / ms for name, ms in times.items()}
            within = _within(list(rounds.values()), list(ratios.values()))
            if within <= SURE:
                break
    waited = median(shares) if shares else 0.0
    measured = Measured({name: (ms, ratios[name]) for name, ms in times.items()}, waited, within)
    if not measured.is_quiet:
        progress.say(was_busy(waited))
    tell_of_unsure(within, progress)
    return measured


def tell_of_unsure(within: float, progress: Progress) -> None:
    """Say it where ratios are known worse than they should be."""
    if within > SURE:
        progress.say(
            f"how many times faster one file is than another is known within {within:.0%} only: this machine is not "
            "steady, and a time may be missed by as much"
        )


def _within(files: Sequence[Sequence[Samples]], ratios: Sequence[float]) -> float:
    """How far the ends of intervals lie from the ratios to the first file, whose rounds were beside those of others."""
    found = 0.0
    for other, ratio in zip(files[1:], ratios[1:], strict=True):
        low, high = ratio_interval(files[0], other)
        found = max(found, 1 - low / ratio, high / ratio - 1)
    return found
