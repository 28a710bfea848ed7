"""Pruning for time against pruning for arithmetic, at equal accuracy: the trained ResNet-20 and ResNet-56 on CIFAR-10.

    COMPRESS_DATA=... python benchmarks/pruning_choice.py [--only resnet20 resnet56] [--precision fp32 int8]
        [--macs 0.5 0.75] [--faster 1.15 1.25 1.35] [--seeds 0 1] [--images 10000] [--epochs 10]

First a network is pruned to a share of its MACs, then, from the published weights again, to the time of that one's
file at batch 1 divided by 1.25 or what else is asked, once for fp32 files and once for int8 ones. All recover with the
same schedule, distilled from the unpruned network, and all 10,000 test images are looked at once, at the end, by the
float network. Then the files of a precision are measured side by side, with the unpruned one's.

How much faster at equal accuracy is read where a straight line through all of a network's choices by time, with how
much faster and how much more accurate than those by MACs each is, says that nothing is won or lost: never beyond the
fastest that was measured. Of one choice it is how much faster that is, if it is no less accurate. What is done is kept,
so that an interrupted call goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Claim, cifar10, finish, save_result
from pruning_time import IMAGES, WEIGHTS, network
from torch import nn

from compress.data.dataset import Data
from compress.data.locations import cache_folder
from compress.library import load_task
from compress.pruning.latency.cached import FILES_RULE
from compress.pruning.latency.files import measure_files, timing_file
from compress.pruning.reach import Where, emission_for
from compress.pruning.recover import describe, prune_and_recover
from compress.pruning.stage import Prune
from compress.stage import Context, Silent
from compress.targets.reading import read_target
from compress.training.evaluate import evaluate

FASTER = 1.25
"""What is asked of the choice by time over that by MACs: the 1.2 claimed, and the 4 % by which a file may miss it."""
BY_MACS, BY_TIME = "by MACs", "by time"
TASK = load_task("image-classification")
TARGET = read_target("local")


def recovered(
    name: str, how_far: dict[str, Any], seed: int, data: Data, arguments: argparse.Namespace, folder: Path
) -> tuple[nn.Module, dict[str, Any]]:
    """A network that was pruned and has recovered, and what it came to; a finished one is read back."""
    folder.mkdir(parents=True, exist_ok=True)
    kept, note = folder / "network.pt", folder / "found.json"
    if not note.exists():
        recover = {
            "epochs": arguments.epochs, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.02, "keep": "last",
            "cache": {"views": 2}, "precision": "bf16",
        }  # fmt: skip
        settings = Prune.model_validate({**how_far, "recover": recover})
        context = Context(seed=seed, threads=1, checkpoints=folder / "checkpoints")
        module = network(name)
        pruned = prune_and_recover(
            module, data, TASK, settings, settings.recover, context, Where(TARGET, IMAGES, Silent())
        )
        print(name, describe(pruned.log), flush=True)
        torch.save(module, kept)
        found = {
            "accuracy": evaluate(module, data, TASK, data.test, context=context)["accuracy"],
            "macs_left": pruned.log.after["macs"] / pruned.log.before["macs"],
            "blocks_gone": len(pruned.log.dropped),
        }
        note.write_text(json.dumps(found))
    return torch.load(kept, weights_only=False).eval(), json.loads(note.read_text())


def choices(
    name: str, share: float, precision: str, seed: int, data: Data, arguments: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """The unpruned network, and it pruned for MACs and for times: accuracy and milliseconds, measured side by side."""
    whole, emission = network(name), emission_for(TARGET, precision)
    by_macs, arithmetic = recovered(name, {"keep": {"macs": share}}, seed, data, arguments, folder / "macs")
    faster = folder / f"faster-{precision}-{FILES_RULE}.json"
    if not faster.exists():
        files = {"whole": timing_file(whole, IMAGES, emission), "macs": timing_file(by_macs, IMAGES, emission)}
        faster.write_text(json.dumps(measure_files(files, IMAGES, TARGET, 1, Silent())["macs"][1]))
    plain = {"accuracy": evaluate(whole, data, TASK, data.test)["accuracy"], "macs_left": 1.0, "blocks_gone": 0}
    modules, rows = {"unpruned": whole, BY_MACS: by_macs}, {"unpruned": plain, BY_MACS: arithmetic}
    for asked in arguments.faster:
        reach = {"speedup": asked * json.loads(faster.read_text()), "precision": precision, "batch": 1}
        how, kept = f"{BY_TIME}, {asked:g}x asked", folder / f"time-{precision}-{asked:g}"
        modules[how], rows[how] = recovered(name, {"reach": reach}, seed, data, arguments, kept)
    files = {how: timing_file(module, IMAGES, emission) for how, module in modules.items()}
    measured = measure_files(files, IMAGES, TARGET, 1, Silent())
    milliseconds = {how: measured[how][0] for how in files}
    return [
        {
            **row,
            "how": how,
            "ms": milliseconds[how],
            "faster": milliseconds[BY_MACS] / milliseconds[how],
            "won": row["accuracy"] - arithmetic["accuracy"],
        }
        for how, row in rows.items()
    ]


def faster_at_equal_accuracy(points: Sequence[tuple[float, float]]) -> float:
    """By how many times (faster, accuracy won) say that choices by time are faster, where nothing is won or lost.

    0 where even the slowest loses.
    """
    speeds, won = np.array(points).T
    if len(set(speeds)) == 1:
        return float(speeds[0]) if won.mean() >= 0 else 0.0
    slope, start = np.polyfit(speeds, won, 1)
    if start + slope * speeds.max() >= 0:
        return float(speeds.max())
    if start + slope * speeds.min() < 0:
        return 0.0
    return float(-start / slope)


def main() -> int:
    """Prune, recover, measure, print; 0 if both claims hold for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(WEIGHTS), default=list(WEIGHTS))
    parser.add_argument("--precision", nargs="+", choices=["fp32", "int8"], default=["fp32", "int8"])
    parser.add_argument("--macs", nargs="+", type=float, default=[0.5], help="shares that the other choice keeps")
    parser.add_argument(
        "--faster", nargs="+", type=float, default=[FASTER], help="than the other choice, what is asked"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of choosing and training")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", default="pruning_choice", help="the name that results are kept by")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, lines, claims = cifar10(arguments.images), [], []
    for name, share, precision in itertools.product(arguments.only, arguments.macs, arguments.precision):
        points = []
        for seed in arguments.seeds:
            schedule = f"{name}-{share}-{arguments.images}-{arguments.epochs}-{seed}"
            folder = cache_folder() / "benchmarks" / "pruning_choice" / schedule
            rows = choices(name, share, precision, seed, data, arguments, folder)
            points += [(row["faster"], row["won"]) for row in rows if row["how"].startswith(BY_TIME)]
            lines += [
                {
                    "network": name,
                    "share": f"{share:.0%}",
                    "precision": precision,
                    "seed": seed,
                    "pruned": row["how"],
                    "test accuracy": f"{row['accuracy']:.2%}",
                    "p50": f"{row['ms']:.3f} ms",
                    "over unpruned": f"{rows[0]['ms'] / row['ms']:.2f}x",
                    "over by MACs": f"{row['faster']:.2f}x",
                    "MACs left": f"{row['macs_left']:.0%}",
                    "blocks gone": row["blocks_gone"],
                }
                for row in rows
            ]
        print(lines[-len(rows) * len(arguments.seeds) :], flush=True)
        where, found = f"{name}, {share:.0%} of the MACs, {precision}", faster_at_equal_accuracy(points)
        claims.append(Claim(f"{where}: by time over by MACs, at no less accuracy", found, ">=", 1.2, "{:.2f}x"))
    notes = [f"batch 1, one thread; {arguments.epochs} epochs of {arguments.images:,} images"]
    return save_result(arguments.save, lines, claims, notes)


if __name__ == "__main__":
    finish(main)
