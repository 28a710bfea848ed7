"""Records calls of real processes, interleaved between two networks, for the test of our intervals.

Writes `tests/profiling/traces.npz`: for each network (rounds, calls) nanoseconds, calls evenly spaced over each
process, in their order. The busier the machine, the harder the test.

    python benchmarks/traces.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import ROOT, finish
from measuring import network, ours

from compress.profiling.profile import turns
from compress.targets.reading import read_target

KEPT = 64
NETWORKS = {"small": (12, 16, 2), "large": (32, 32, 2)}
"""Channels, height and width, convolutions: 0.02 and 0.2 ms a call."""


def main() -> int:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150, help="fresh processes of each network")
    parser.add_argument("--core", type=int, help="the core to pin to; the last one unless given")
    parser.add_argument("--save", type=Path, default=ROOT / "tests" / "profiling" / "traces.npz")
    arguments = parser.parse_args()
    cores = None if arguments.core is None else (arguments.core,)
    target = read_target("local").model_copy(update={"cores": cores})
    found: dict[str, list[np.ndarray]] = {name: [] for name in NETWORKS}
    with tempfile.TemporaryDirectory(prefix="compress-traces-") as folder:
        files = {name: network(Path(folder) / f"{name}.onnx", *sizes) for name, sizes in NETWORKS.items()}
        for index in range(arguments.rounds):
            for turn in turns(len(files), index):
                name = list(files)[turn]
                samples = ours(files[name], target)
                kept = np.linspace(0, len(samples) - 1, KEPT).astype(int)
                found[name].append((samples[kept] * 1e6).astype(np.int32))
    traces = {name: np.stack(rounds) for name, rounds in found.items()}
    np.savez_compressed(arguments.save, small=traces["small"], large=traces["large"])
    for name, rounds in traces.items():
        medians = np.median(rounds, axis=1) / 1e6
        print(
            f"{name}: p50 {np.median(medians):.4f} ms; rounds' medians from {medians.min():.4f} to {medians.max():.4f}"
        )
    print(f"{arguments.save.name}: {arguments.save.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    finish(main)
