"""A small Llama learns Tiny Shakespeare from a larger one, and from the text alone: same start, same steps, 3 seeds.

    COMPRESS_DATA=... python benchmarks/distillation_shakespeare.py [--threads 1] [--set train.epochs=2]

The teacher, the students and all settings are those of `pipelines/shakespeare_llama.yaml`. What is compared is the
perplexity of the validation text (per character). Finished trainings are kept, so that an interrupted call goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from common import ROOT, Claim, finish, save_result
from torch import nn

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.data.locations import cache_folder
from compress.data.open import open_data
from compress.distillation.distill import distill
from compress.models.build import need_of
from compress.models.derive import shrunk
from compress.models.factory import Factory, build, factory_for
from compress.pipeline import Pipeline
from compress.stage import Context
from compress.tasks.open import open_task
from compress.training.evaluate import evaluate
from compress.training.train import train

PIPELINE = ROOT / "pipelines" / "shakespeare_llama.yaml"


class Bench:
    """The pipeline's parts, and a folder of what was trained."""

    def __init__(self, pipeline: Pipeline, threads: int) -> None:
        self.pipeline, self.threads = pipeline, threads
        self.task = open_task(pipeline.task)
        self.data = self.task.prepare(open_data(pipeline.data))
        self.recipe: Any = pipeline.stages[0].stage
        self.distillation: Any = pipeline.stages[1].stage
        self.teacher_factory = factory_for(pipeline.models["teacher"], need_of(self.data, self.task))
        self.student_factory = shrunk(self.teacher_factory, pipeline.models["student"])
        text = json.dumps([self.recipe.model_dump(mode="json"), self.distillation.model_dump(mode="json"),
                           str(self.teacher_factory), self.data.fingerprint])  # fmt: skip
        self.folder = cache_folder() / "benchmarks" / "shakespeare" / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def context(self, seed: int, name: str) -> Context:
        """Where one training stands."""
        checkpoints = self.folder / f"{name}-{seed}"
        return Context(
            seed=seed, threads=self.threads, device="cpu", checkpoints=checkpoints, progress=ConsoleProgress()
        )

    def perplexity(self, module: nn.Module) -> float:
        """Of the validation text."""
        context = Context(threads=self.threads, device="cpu")
        return evaluate(module, self.data, self.task, self.data.validation, context=context)["perplexity"]

    def teacher(self) -> nn.Module:
        """The trained teacher, read back if it is there."""
        module, file = build(self.teacher_factory, 0), self.folder / "teacher.pt"
        if file.exists():
            module.load_state_dict(torch.load(file, weights_only=True))
        else:
            train(module, self.data, self.task, self.recipe, self.context(0, "teacher"))
            torch.save(module.state_dict(), file)
        return module.eval()

    def student(self, way: str, seed: int, teacher: nn.Module) -> float:
        """Perplexity of a student, trained in one of the two ways."""
        note = self.folder / f"{way}-{seed}.json"
        if not note.exists():
            student = build(self.student_factory, seed + 1)
            context, settings = self.context(seed, way), self.distillation
            if way == "text alone":
                train(student, self.data, self.task, settings, context)
            else:
                distill(student, teacher, self.data, self.task, settings, settings.losses, context)
            note.write_text(json.dumps(self.perplexity(student)))
        return float(json.loads(note.read_text()))


def parameters(factory: Factory) -> int:
    """How many numbers a network has."""
    return sum(parameter.numel() for parameter in build(factory).parameters())


def main() -> int:
    """Train, compare, keep; 0 if the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="override a value of the pipeline")
    arguments = parser.parse_args()
    bench = Bench(read_pipeline(Path(PIPELINE), arguments.set), arguments.threads)
    teacher = bench.teacher()
    ways = ("text alone", "with its teacher")
    found = {way: [bench.student(way, seed, teacher) for seed in range(arguments.seeds)] for way in ways}
    lines: list[dict[str, Any]] = [
        {
            "network": "teacher",
            "parameters": f"{parameters(bench.teacher_factory):,}",
            "validation perplexity": f"{bench.perplexity(teacher):.3f}",
        }
    ]
    lines += [
        {
            "network": f"student, {way}",
            "parameters": f"{parameters(bench.student_factory):,}",
            "validation perplexity": f"{mean(values):.3f}",
            "seeds": ", ".join(f"{value:.3f}" for value in values),
        }
        for way, values in found.items()
    ]
    alone, taught = (found[way] for way in ways)
    better = sum(theirs < own for theirs, own in zip(taught, alone, strict=True))
    claims = [
        Claim("mean perplexity, with its teacher over text alone", mean(taught) / mean(alone), "<=", 0.9999, "{:.4f}"),
        Claim("seeds in which the teacher helps", better, ">=", arguments.seeds, "{:.0f}"),
    ]
    return save_result("distillation_shakespeare", lines, claims)


if __name__ == "__main__":
    finish(main)
