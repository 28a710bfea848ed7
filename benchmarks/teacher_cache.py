"""What a teacher costs, with its answers kept and without, and what it costs to see only K views of each image.

    COMPRESS_DATA=... python benchmarks/teacher_cache.py [--threads 1] [--images 2500] [--epochs 8] [--seeds 3]

1. Time: an epoch of a resnet20 that learns CIFAR-10 from ResNet-56, all through `fit`, in interleaved rounds: on labels
   alone; with answers from the cache, its view being there; with the teacher run at each step. The last is compared
   with the sum of a plain step and the teacher's forward pass of the same batch.
2. Accuracy: a resnet8 on some images, `kl` at temperature 4, with fresh augmentation in every epoch, with 2 and 4
   views, and with as many as there are epochs, where no image comes twice: what that one differs by is chance. Same
   schedule, all test images.

Run the first part on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from common import Claim, cifar10, finish, save_result
from distillation_cifar10 import LOSSES, resnet
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.data.locations import cache_folder
from compress.distillation.distill import distill, method_for
from compress.distillation.teacher_settings import Cache
from compress.library import load_task
from compress.models.weights import load_weights
from compress.stage import Context
from compress.training.evaluate import evaluate
from compress.training.fit import fit
from compress.training.method import Method, Supervised, TorchBatch, TrainingProgress
from compress.training.settings import Recipe

BATCH, EXAMPLES, ROUNDS = 64, 1280, 7
TASK = load_task("image-classification")


class Timed(Method):
    """Another method, with the time after each step."""

    def __init__(self, inner: Method) -> None:
        self.inner = inner
        self.stamps: list[float] = []

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The inner method's."""
        return self.inner.loss(model, batch, progress)

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """The inner method's."""
        return self.inner.augmentation(seed, epoch)

    def after_step(self, progress: TrainingProgress) -> None:
        """A stamp."""
        self.stamps.append(time.perf_counter())


def step_seconds(method: Method, data: Data, context: Context) -> float:
    """Median seconds of a step of `fit`, over one epoch."""
    timed = Timed(method)
    recipe = Recipe(epochs=1, batch_size=BATCH, optimizer="sgd", keep="last")
    fit(resnet("resnet20", 1), data, TASK, timed, recipe, context=context)
    return median(np.diff(timed.stamps[1:]))


def forward_seconds(teacher: nn.Module, data: Data, context: Context) -> float:
    """Median seconds of the teacher's forward pass of a batch."""
    torch.set_num_threads(context.threads)
    found = []
    for start in range(0, EXAMPLES, BATCH):
        inputs = torch.from_numpy(data.batch(data.train, np.arange(start, start + BATCH), augment=(0, 0)).inputs[0])
        begin = time.perf_counter()
        with torch.no_grad():
            teacher(inputs)
        found.append(time.perf_counter() - begin)
    return median(found[1:])


def time_part(context: Context) -> tuple[list[dict[str, Any]], list[Claim], list[str]]:
    """Steps of each kind, interleaved."""
    data = cifar10(EXAMPLES)
    teacher = trained_teacher()
    recipe = Recipe(epochs=1, batch_size=BATCH)
    student = resnet("resnet20", 1)

    def method(cache: Any) -> Method:
        return method_for(student, teacher, data, TASK, recipe, LOSSES["kl"], context, cache=cache)

    kept, live = method(Cache(views=1)), method("off")
    contenders: dict[str, Callable[[], float]] = {
        "student alone": lambda: step_seconds(Supervised(TASK), data, context),
        "answers from the cache": lambda: step_seconds(kept, data, context),
        "teacher at each step": lambda: step_seconds(live, data, context),
        "teacher's forward pass": lambda: forward_seconds(teacher, data, context),
        "student alone, again": lambda: step_seconds(Supervised(TASK), data, context),
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS + 1):  # the first warms up, and fills the cache
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            seconds = contenders[name]()
            if turn:
                found[name].append(seconds)
    plain = found["student alone"]

    def ratio(name: str, below: list[float]) -> float:
        return median(a / b for a, b in zip(found[name], below, strict=True))

    both = [a + b for a, b in zip(plain, found["teacher's forward pass"], strict=True)]
    lines = [
        {
            "step": name,
            "median ms": f"{1000 * median(times):.1f}",
            "over the student alone": f"{ratio(name, plain):.3f}",
        }
        for name, times in found.items()
    ]
    cached = ratio("answers from the cache", plain)
    claims = [
        Claim("epoch with cached answers over the plain one", cached, "<=", 1.1, "{:.3f}"),
        Claim(
            "step with the teacher over teacher's forward plus student's step",
            ratio("teacher at each step", both), "<=", 1.05, "{:.3f}",
        ),
    ]  # fmt: skip
    files = list((cache_folder() / "teachers").rglob("*.npy"))
    size = sum(file.stat().st_size for file in files) / EXAMPLES
    notes = [f"{size:.1f} bytes on disk for each image and view (10 classes in float16 and the files' headers)",
             f"{ROUNDS} rounds of {EXAMPLES // BATCH} steps, batch {BATCH}, {context.threads} thread"]  # fmt: skip
    return lines, claims, notes


def trained_teacher() -> nn.Module:
    """The published ResNet-56."""
    teacher = resnet("resnet56", 0)
    load_weights(teacher, Path(os.environ["COMPRESS_DATA"]) / "models/resnet_cifar10/resnet56-4bfd9763.th")
    return teacher.eval()


def accuracy_part(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """A student on fresh augmentation and on K views; finished trainings are read back."""
    folder = cache_folder() / "benchmarks" / "teacher_cache" / f"{arguments.epochs}-{arguments.images}"
    folder.mkdir(parents=True, exist_ok=True)
    data, found = cifar10(arguments.images), dict[str, list[float]]()
    choices: dict[str, Any] = {"fresh in each epoch": "off"}
    choices |= {f"{views} views": Cache(views=views) for views in (2, 4, arguments.epochs)}
    for seed in range(arguments.seeds):
        for name, cache in choices.items():
            note = folder / f"{name.replace(' ', '-')}-{seed}.json"
            if not note.exists():
                context = Context(seed=seed, threads=arguments.threads, device="cpu")
                student = resnet("resnet8", seed)
                recipe = Recipe(
                    epochs=arguments.epochs, batch_size=64, optimizer="sgd", learning_rate=0.05, keep="last"
                )
                distill(student, trained_teacher(), data, TASK, recipe, LOSSES["kl"], context, cache=cache)
                accuracy = evaluate(student, data, TASK, data.test, context=context)["accuracy"]
                note.write_text(json.dumps(accuracy))
            found.setdefault(name, []).append(json.loads(note.read_text()))
            print(f"{name}, seed {seed}: {found[name][-1]:.2%}", flush=True)
    fresh = found["fresh in each epoch"]
    lines = [
        {
            "augmentation": name,
            "test accuracy": f"{mean(values):.2%}",
            "seeds": ", ".join(f"{value:.2%}" for value in values),
            "points lost": "" if name.startswith("fresh") else f"{100 * (mean(fresh) - mean(values)):+.2f}",
        }
        for name, values in found.items()
    ]
    return lines, [
        f"resnet8, {arguments.images:,} images, {arguments.epochs} epochs, kl at temperature 4, {arguments.seeds} seeds"
    ]


def main() -> int:
    """Measure, print, keep; 0 if both claims hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["time", "accuracy"])
    arguments = parser.parse_args()
    views, view_notes = accuracy_part(arguments) if arguments.only != "time" else ([], [])
    if arguments.only == "accuracy":
        return save_result("teacher_cache_accuracy", views, [], view_notes)
    with tempfile.TemporaryDirectory() as scratch:  # a cache of its own: nothing is there before
        os.environ["COMPRESS_CACHE"] = scratch
        context = Context(seed=0, threads=arguments.threads, device="cpu")
        lines, claims, notes = time_part(context)
    return save_result("teacher_cache", [*lines, *views], claims, [*notes, *view_notes])


if __name__ == "__main__":
    finish(main)
