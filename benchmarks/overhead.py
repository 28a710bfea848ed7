"""What training costs beyond its arithmetic.

1. A step of distillation against a hand-written PyTorch loop that does the same arithmetic (fused optimizer and all).
2. A step of int8 training against a float step, both by `fit`, both eager, or both compiled.

Each round times every contender in turn, in an order that changes; a contender against itself shows the noise. Run it
on an otherwise idle machine:

    python benchmarks/overhead.py
    python benchmarks/overhead.py --only compiled     (int8 against float with torch.compile; ten minutes)
    python benchmarks/overhead.py --network small --size 8 --channels 1 --batch 64 --steps 60 --rounds 10
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import Claim, finish, save_result
from torch import Tensor, nn
from torch.nn import functional

from compress.data.dataset import ArraySplit, Data
from compress.distillation.distill import method_for
from compress.quantization.calibrate import calibrate
from compress.quantization.prepare import prepare
from compress.quantization.train import QuantizationAware
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.fit import fit
from compress.training.method import Method, Supervised, TorchBatch, TrainingProgress
from compress.training.settings import Recipe

DISTILLATION_LIMIT, INT8_LIMIT, COMPILED_LIMIT = 1.05, 2.0, 1.6
COMPILED_STEPS, COMPILING = 40, 3.0
STAGES = {"resnet18": (64, 128, 256, 512), "small": (16, 32, 64)}
BLOCKS = {"resnet18": 2, "small": 1}
TASK = open_task(TaskSettings())


@dataclass(frozen=True)
class Sizes:
    """What is trained, and how much of it."""

    network: str
    channels: int
    size: int
    batch: int
    steps: int
    rounds: int
    threads: int
    classes: int = 10


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        project = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if same else project

    def forward(self, inputs: Tensor) -> Tensor:
        """The block's outputs."""
        hidden = functional.relu(self.first_norm(self.first(inputs)))
        return functional.relu(self.second_norm(self.second(hidden)) + self.shortcut(inputs))


def network(sizes: Sizes, seed: int) -> nn.Sequential:
    """ResNet-18, or a small ResNet for small images."""
    torch.manual_seed(seed)
    widths = STAGES[sizes.network]
    inputs = widths[0]
    stem: list[nn.Module] = [nn.Conv2d(sizes.channels, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()]
    if sizes.network == "resnet18":
        stem[0] = nn.Conv2d(sizes.channels, inputs, 7, 2, 3, bias=False)
        stem.append(nn.MaxPool2d(3, 2, 1))
    blocks: list[nn.Module] = []
    for stage, width in enumerate(widths):
        for block in range(BLOCKS[sizes.network]):
            blocks.append(Residual(inputs, width, 2 if stage and not block else 1))
            inputs = width
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, sizes.classes))


class Timed(Method):
    """Another method, with the time after each step."""

    def __init__(self, inner: Method) -> None:
        self.inner = inner
        self.stamps: list[float] = []

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The inner method's."""
        return self.inner.loss(model, batch, progress)

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        """The inner method's."""
        self.inner.before_step(model, progress)

    def after_step(self, progress: TrainingProgress) -> None:
        """The inner method's, and a stamp."""
        self.inner.after_step(progress)
        self.stamps.append(time.perf_counter())


def seconds_of_steps(stamps: list[float]) -> float:
    """Mean time from step to step, the first left out. Not the median: int8 training has dearer and cheaper phases."""
    return (stamps[-1] - stamps[1]) / (len(stamps) - 2)


def random_data(sizes: Sizes) -> Data:
    """Images of noise, `steps` batches of them."""
    generator = np.random.default_rng(0)

    def split(examples: int) -> ArraySplit:
        shape = (examples, sizes.channels, sizes.size, sizes.size)
        images = generator.standard_normal(shape, dtype=np.float32)
        return ArraySplit(images, generator.integers(0, sizes.classes, examples))

    return Data(split(sizes.steps * sizes.batch), split(2), split(2))


def by_fit(student: nn.Module, method: Method, data: Data, sizes: Sizes) -> float:
    """Seconds of a step of the project's own loop."""
    timed = Timed(method)
    recipe = Recipe(epochs=1, batch_size=sizes.batch, keep="last")
    fit(student, data, TASK, timed, recipe, context=Context(device="cpu", threads=sizes.threads))
    return seconds_of_steps(timed.stamps)


def by_hand(student: nn.Module, teacher: nn.Module, images: Tensor, targets: Tensor, sizes: Sizes) -> float:
    """Seconds of a step of distillation as one writes it in an afternoon: KL at temperature 4 and cross-entropy."""
    decayed = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.003, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sizes.steps)
    student.train()
    teacher.eval()
    stamps = []
    for index in torch.split(torch.randperm(len(images)), sizes.batch):
        inputs, wanted = images[index], targets[index]
        with torch.no_grad():
            soft = functional.log_softmax(teacher(inputs) / 4, dim=1)
        outputs = student(inputs)
        kl = functional.kl_div(functional.log_softmax(outputs / 4, dim=1), soft, reduction="batchmean", log_target=True)
        loss = 0.9 * 16 * kl + 0.1 * functional.cross_entropy(outputs, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        stamps.append(time.perf_counter())
    return seconds_of_steps(stamps)


def interleaved(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each contender's seconds in each round; a round before them warms up."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        names = list(contenders) if turn % 2 else list(contenders)[::-1]
        for name in names:
            seconds = contenders[name]()
            if turn:
                found[name].append(seconds)
    return found


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> tuple[float, float, float]:
    """Median over the rounds of one contender's time over another's, and its first and third quartile."""
    ratios = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


def distillation(sizes: Sizes, data: Data) -> tuple[dict[str, list[float]], str, str]:
    """Times of `distill` and of the loop by hand."""
    teacher, ours, theirs = network(sizes, 0), network(sizes, 1), network(sizes, 1)
    images = torch.from_numpy(np.stack(data.train.raw(range(len(data.train)))))
    targets = torch.from_numpy(data.train.targets(range(len(data.train))))
    context = Context(device="cpu", threads=sizes.threads)
    method = method_for(ours, teacher, data, TASK, Recipe(epochs=1), context=context, cache="off")
    contenders = {
        "distillation, by hand": lambda: by_hand(theirs, teacher, images, targets, sizes),
        "distillation, compress": lambda: by_fit(ours, method, data, sizes),
        "distillation, by hand again": lambda: by_hand(theirs, teacher, images, targets, sizes),
    }
    return interleaved(contenders, sizes.rounds), "distillation, compress", "distillation, by hand"


def int8_training(sizes: Sizes, data: Data) -> tuple[dict[str, list[float]], str, str]:
    """Times of training on labels in float and in int8, over the whole schedule of the latter."""
    model = network(sizes, 0)
    example = data.batch(data.train, np.arange(sizes.batch)).inputs
    examples = tuple(torch.from_numpy(array) for array in example)
    prepared = prepare(network(sizes, 0).eval(), tuple(tensor[:2] for tensor in examples))
    calibrate(prepared, lambda: iter([examples]), "minmax")
    contenders = {
        "training, float": lambda: by_fit(model, Supervised(TASK), data, sizes),
        "training, int8": lambda: by_fit(prepared, QuantizationAware(Supervised(TASK)), data, sizes),
        "training, float again": lambda: by_fit(model, Supervised(TASK), data, sizes),
    }
    return interleaved(contenders, sizes.rounds), "training, int8", "training, float"


def compiled_training(sizes: Sizes) -> tuple[list[dict[str, Any]], Claim]:
    """Steps of float and of int8 training with `compile: true`, one run of `fit` after the other, float once more.

    Steps in which something was compiled take many times as long as the others: they are counted apart, and shown.
    """
    longer = Sizes(**{**vars(sizes), "steps": COMPILED_STEPS})
    data = random_data(longer)
    examples = tuple(torch.from_numpy(array) for array in data.batch(data.train, np.arange(sizes.batch)).inputs)
    prepared = prepare(network(sizes, 0).eval(), tuple(tensor[:2] for tensor in examples))
    calibrate(prepared, lambda: iter([examples]), "minmax")
    recipe = Recipe(epochs=1, batch_size=sizes.batch, keep="last", compile=True)
    context = Context(device="cpu", threads=sizes.threads)
    lines, means = [], {}
    for name, student, method in (
        ("compiled training, float", network(sizes, 0), Supervised(TASK)),
        ("compiled training, int8", prepared, QuantizationAware(Supervised(TASK))),
        ("compiled training, float again", network(sizes, 0), Supervised(TASK)),
    ):
        torch._dynamo.reset()
        timed = Timed(method)
        begin = time.perf_counter()
        fit(student, data, TASK, timed, recipe, context=context)
        steps = np.diff([begin, *timed.stamps])
        usual = steps[steps < COMPILING * np.median(steps)]
        means[name] = float(usual.mean())
        lines.append(
            {
                "step": name,
                "mean ms": f"{1000 * usual.mean():.1f}",
                "ratio": f"{means[name] / means['compiled training, float']:.3f}",
                "seconds of compiling": f"{steps.sum() - len(steps) * usual.mean():.0f}",
            }
        )
    value = means["compiled training, int8"] / means["compiled training, float"]
    return lines, Claim("compiled training, int8 over float", value, "<=", COMPILED_LIMIT, "{:.3f}")


def main() -> int:
    """Measure, print, keep; 0 if both claims hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(STAGES), default="resnet18")
    parser.add_argument("--only", choices=["distillation", "int8", "compiled"], help="one of the comparisons")
    defaults = {"channels": 3, "size": 64, "batch": 32, "steps": 8, "rounds": 8, "threads": 2}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = vars(parser.parse_args())
    only = given.pop("only")
    sizes = Sizes(**given)
    torch.set_num_threads(sizes.threads)
    data = random_data(sizes)
    lines: list[dict[str, Any]] = []
    claims = []
    comparisons = {"distillation": (distillation, DISTILLATION_LIMIT), "int8": (int8_training, INT8_LIMIT)}
    for name, (measure, limit) in comparisons.items():
        if only not in (None, name):
            continue
        seconds, above, below = measure(sizes, data)
        for contender, times in seconds.items():
            middle, low, high = ratio(seconds, contender, below)
            milliseconds = f"{1000 * statistics.median(times):.1f}"
            lines.append({"step": contender, "median ms": milliseconds, "ratio": f"{middle:.3f}",
                          "quartiles of the ratio": f"{low:.3f} to {high:.3f}"})  # fmt: skip
        claims.append(Claim(f"{above} over {below}", ratio(seconds, above, below)[0], "<=", limit, "{:.3f}"))
    if only == "compiled":
        lines, claim = compiled_training(sizes)
        claims.append(claim)
    shape = f"{sizes.network}, {sizes.channels}x{sizes.size}x{sizes.size}, batch {sizes.batch}, {sizes.threads} threads"
    notes = [f"{shape}; {sizes.rounds} interleaved rounds of {sizes.steps} steps; torch {torch.__version__}, eager"]
    if only == "compiled":
        notes = [f"{shape}; {COMPILED_STEPS} steps each; torch {torch.__version__} with torch.compile"]
    name = "overhead" if sizes.network == "resnet18" else f"overhead_{sizes.network}"
    name += "_int8" if only == "int8" else ""
    name += "_compiled" if only == "compiled" else ""
    return save_result(name, lines, claims, notes)


if __name__ == "__main__":
    finish(main)
