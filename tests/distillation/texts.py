"""Texts of a few characters, and teachers whose answers to them are uneven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compress.data.dataset import Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.distillation.distill import method_for
from compress.distillation.method import Distillation
from compress.stage import Context, Silent
from compress.training.batches import to_torch
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.settings import Recipe
from tests.distillation.networks import task_of, text

Array = npt.NDArray[np.float64]
TASKS = {"blocks": "causal-lm", "documents": "causal-lm", "instructions": "causal-lm", "masked": "masked-lm",
         "answers": "sequence-to-sequence"}  # fmt: skip
FAMILIES = {"causal-lm": "llama", "masked-lm": "bert", "sequence-to-sequence": "t5"}
CPU = torch.device("cpu")


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def texts(kind: str, folder: Path, max_length: int = 12) -> Data:
    """Texts as the task of a `kind` of `TASKS` has them, a token for each character."""
    generator = np.random.default_rng(0)

    def word() -> str:
        return "".join(generator.choice(list("abcdef"), generator.integers(1, 4)))

    if kind in ("blocks", "masked"):
        (folder / "t.txt").write_text("".join(f"{word()} {word()}\n" for _ in range(120)))
        source: dict[str, Any] = {"plain_text": {"path": "t.txt"}}
    else:
        rows = [{"q": f"{word()} {word()[:2]}", "a": word(), "why": f"{word()} {word()}"} for _ in range(40)]
        (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"table": {"path": "t.jsonl", "input": "q", "target": None if kind == "documents" else "a"}}
    settings: dict[str, Any] = {"tokenizer": "characters", "max_length": max_length}
    if kind in ("instructions", "answers"):
        settings |= {"targets": "text", "rationale": "why"}
    found = open_data(read_data_settings({"source": source, "text": settings}, folder))
    return task_of(TASKS[kind]).prepare(found)


def network(kind: str, data: Data, seed: int, layers: int = 1, **changes: Any) -> nn.Module:
    """One that answers `data`, far from evenly, in evaluation mode."""
    assert data.text is not None
    task = TASKS[kind]
    sizes = {"vocab_size": data.text.vocabulary_size, **changes}
    made = text(FAMILIES[task], task, seed=seed, layers=layers, **sizes).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5 if task == "sequence-to-sequence" else 8)
    return made


def method(
    kind: str, student: nn.Module, teacher: Any, data: Data, losses: Any, cache: Any, *, epochs: int = 40,
    context: Context | None = None,
) -> Distillation:  # fmt: skip
    """How `student` learns, on one thread."""
    there = context or Context(device="cpu", threads=1)
    return method_for(student, teacher, data, task_of(TASKS[kind]), Recipe(epochs=epochs), losses, there, cache=cache)


def at(epoch: int) -> TrainingProgress:
    return TrainingProgress(epoch=epoch, step=epoch, steps=40, seed=0)


def batch_of(data: Data, indices: list[int], augment: tuple[int, int] | None = (0, 0)) -> TorchBatch:
    return to_torch(data.batch(data.train, indices, augment=augment), CPU)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    found: Array = powers / powers.sum(-1, keepdims=True)
    return found


def top_kl_by_hand(student: Array, teacher: Array, counted: Any, k: int, temperature: float) -> float:
    """The definition in float64: of each position that counts, all tokens but the teacher's first k are one."""
    total = 0.0
    for own, theirs in zip(student[counted], teacher[counted], strict=True):
        p, q = softmax(theirs / temperature), softmax(own / temperature)
        first = np.argsort(-p, kind="stable")[:k]
        pairs = [*zip(p[first], q[first], strict=True), (1 - p[first].sum(), 1 - q[first].sum())]
        total += sum(a * np.log(a / b) for a, b in pairs if a > 1e-12)
    return temperature**2 * total / int(counted.sum())


def logits_of(module: nn.Module, batch: TorchBatch) -> Array:
    with torch.no_grad():
        return np.asarray(module(*batch.inputs).double().numpy())
