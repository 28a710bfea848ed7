"""Every response loss against labels alone: a resnet8 learns CIFAR-10 from a trained ResNet-56.

    COMPRESS_DATA=... python benchmarks/distillation_cifar10.py [--epochs 10] [--seeds 3] [--only kl dkd] [--full]

10,000 training images, one fixed schedule for all, the last epoch's weights, all 10,000 test images looked at once at
the end of each training. Weights and temperatures are those of the papers; where a paper knows language only (reverse
KL, Jensen-Shannon), those of Hinton's setting on CIFAR. The teacher's answers are kept for 8 augmented versions of each
image. What is trained is kept, so that an interrupted call goes on. `--full` is the full schedule: a resnet20, all
images, 240 epochs; for a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from common import Claim, cifar10, finish, save_result

from compress.data.dataset import Data
from compress.data.locations import cache_folder
from compress.distillation.distill import distill
from compress.distillation.teacher_settings import Cache
from compress.errors import UsageError
from compress.library import load_task
from compress.models.weights import load_weights
from compress.models.zoo.table import build_zoo
from compress.stage import Context
from compress.training.evaluate import evaluate
from compress.training.settings import Recipe
from compress.training.train import train

VIEWS = 8
LABELS = "labels alone"
SOFT = 4.0
LOSSES: dict[str, list[dict[str, Any]]] = {
    # RepDistiller's and mdistiller's settings for CIFAR (temperature 4; 0.9 and 0.1)
    "kl": [{"kl": {"temperature": SOFT, "weight": 0.9}}, {"cross_entropy": {"weight": 0.1}}],
    "soft_cross_entropy": [
        {"soft_cross_entropy": {"temperature": SOFT, "weight": 0.9}},
        {"cross_entropy": {"weight": 0.1}},
    ],
    # Ba and Caruana 2014: the logits alone
    "mse": [{"mse": {"weight": 1.0}}],
    # language papers; here as kl above
    "reverse_kl": [{"reverse_kl": {"temperature": SOFT, "weight": 0.9}}, {"cross_entropy": {"weight": 0.1}}],
    # as kl above: T^2 / (beta (1 - beta)) makes its gradient near equality that of kl
    "jsd": [
        {"jsd": {"temperature": SOFT, "beta": 0.5, "weight": 0.9 * SOFT**2 / 0.25}},
        {"cross_entropy": {"weight": 0.1}},
    ],
    # mdistiller, resnet56 -> resnet20: alpha 1, beta 2, a warm-up over the first twelfth
    "dkd": [
        {
            "dkd": {
                "temperature": SOFT,
                "alpha": 1.0,
                "beta": 2.0,
                "weight": {"first": 0.05, "last": 1.0, "end": 1 / 12},
            }
        },
        {"cross_entropy": {"weight": 1.0}},
    ],
    # DIST on CIFAR: beta 2, gamma 2, temperature 4
    "dist": [{"dist": {"temperature": SOFT, "beta": 2.0, "gamma": 2.0}}, {"cross_entropy": {"weight": 1.0}}],
    # MLKD: 0.9 and 0.1, temperatures 2 to 6. Batch and class level grow with 64 / classes and its square: weighed so
    # that they are with 10 classes what they are with the paper's 100
    "mlkd": [{"mlkd": {"weight": 0.9, "batch": 0.1, "by_class": 0.01}}, {"cross_entropy": {"weight": 0.1}}],
}


def resnet(name: str, seed: int) -> torch.nn.Module:
    """A new ResNet with the seed's weights."""
    torch.manual_seed(seed)
    return build_zoo(name, num_classes=10, in_channels=3, width=1.0, shortcut="A")


def trained(name: str, seed: int, data: Data, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one student, or read what an earlier call found of it."""
    note = folder / f"{name.replace(' ', '-')}-{seed}.json"
    if note.exists():
        found: dict[str, Any] = json.loads(note.read_text())
        return found
    task, student = load_task("image-classification"), resnet(arguments.student, seed)
    recipe = Recipe(epochs=arguments.epochs, batch_size=64, optimizer="sgd", learning_rate=0.05, keep="last")
    context = Context(seed=seed, threads=arguments.threads, device=arguments.device)
    if name == LABELS:
        log = train(student, data, task, recipe, context)
    else:
        teacher = resnet("resnet56", 0)
        load_weights(teacher, Path(os.environ["COMPRESS_DATA"]) / "models/resnet_cifar10/resnet56-4bfd9763.th")
        cache: Any = "off" if arguments.full else Cache(views=VIEWS)
        log = distill(student, teacher, data, task, recipe, LOSSES[name], context, cache=cache)
    accuracy = evaluate(student, data, task, data.test, context=context)["accuracy"]
    found = {"loss": name, "seed": seed, "accuracy": accuracy, "seconds": log.seconds}
    note.write_text(json.dumps(found))
    print(f"{name}, seed {seed}: {accuracy:.2%} in {log.seconds:.0f} s", flush=True)
    return found


def main() -> int:
    """Train all, print the table, hold the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        raise UsageError("set COMPRESS_DATA to the folder with CIFAR-10 and the trained ResNets")
    arguments.student = "resnet20" if arguments.full else "resnet8"
    if arguments.full:
        arguments.epochs = 240
    data = cifar10(None if arguments.full else 10_000)
    which = f"{arguments.student}-{arguments.epochs}-{len(data.train)}"
    folder = cache_folder() / "benchmarks" / "distillation_cifar10" / which
    folder.mkdir(parents=True, exist_ok=True)
    names = [LABELS, *arguments.only]
    runs = [trained(name, seed, data, arguments, folder) for seed in range(arguments.seeds) for name in names]
    return report(names, runs, arguments)


def report(names: list[str], runs: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    """The table and its claims."""
    accuracies = {name: [run["accuracy"] for run in runs if run["loss"] == name] for name in names}
    gains = {n: [a - b for a, b in zip(accuracies[n], accuracies[LABELS], strict=True)] for n in names}
    lines = [
        {
            "loss": name,
            "test accuracy": f"{mean(found):.2%}",
            "spread of seeds": f"{min(found):.2%} to {max(found):.2%}",
            "deviation": f"{stdev(found):.2%}" if len(found) > 1 else "",
            "gain over labels": "" if name == LABELS else f"{100 * mean(gains[name]):+.2f} points",
        }
        for name, found in accuracies.items()
    ]
    taught = {name: mean(gains[name]) for name in names[1:]}
    claims = [
        Claim("gain of the best loss", max(taught.values()), ">=", 0.01, "{:.2%}"),
        Claim("losses better than labels alone", sum(gain > 0 for gain in taught.values()), ">=", 6, "{:.0f}"),
        Claim("gain of the worst loss", min(taught.values()), ">=", -0.005, "{:.2%}"),
    ]
    if arguments.full:
        claims = [Claim("best accuracy", max(mean(accuracies[n]) for n in names), ">=", 0.927, "{:.2%}")]
    notes = [f"{arguments.student}, {arguments.epochs} epochs, seeds 0 to {arguments.seeds - 1}"]
    return save_result("distillation_cifar10_full" if arguments.full else "distillation_cifar10", lines, claims, notes)


if __name__ == "__main__":
    finish(main)
