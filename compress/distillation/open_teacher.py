"""A frozen network -> a teacher that runs at each step, or whose answers are kept on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.data.dataset import Data
from compress.data.locations import cache_folder
from compress.distillation.cache import AnswerCache
from compress.distillation.caching import Costs, decide
from compress.distillation.loss_settings import Response
from compress.distillation.loss_term import LossTerm
from compress.distillation.teacher import CachedTeacher, Teacher, answer_computer, top_computer, vocabulary
from compress.distillation.teacher_settings import Cache, CacheChoice
from compress.distillation.terms.table import LABELS, looks_inside
from compress.models.count import count_macs
from compress.models.rest import state_digest
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import to_torch
from compress.training.device import training_device
from compress.training.memory_format import to_work
from compress.training.settings import Recipe


def open_teacher(
    module: nn.Module,
    student: nn.Module,
    data: Data,
    task: Task,
    recipe: Recipe,
    terms: Sequence[LossTerm],
    context: Context,
    choice: CacheChoice = "auto",
    *,
    alone: bool = True,
) -> Teacher:
    """A teacher on the training device, its answers kept on disk if that is chosen or pays; what was decided is said.

    Args:
        module: the network, in evaluation mode from now on.
        student: whose arithmetic is counted to see whether keeping pays.
        data: whose training examples are answered.
        task: says whether each token of a text has an answer.
        recipe: for how many epochs.
        terms: what is read of the answers.
        context: device, threads, processes.
        choice: as in YAML.
        alone: whether it is the only teacher.
    """
    device = training_device(context)
    to_work(module, device).eval()
    obstacle = _obstacle(terms, task, context, alone=alone)
    if obstacle is not None or choice == "off":
        if isinstance(choice, Cache) and not context.rehearsal:
            context.progress.say(f"teacher cache: {obstacle}")
        return _noted(Teacher(module), f"teacher cache: {obstacle or 'off'}")
    settings = choice if isinstance(choice, Cache) else Cache()
    form = _Form(module, data, task, terms, settings, device)
    inputs = to_torch(data.batch(data.train, np.arange(1)), device).inputs
    home = next((p.device for p in student.parameters()), torch.device("cpu"))
    costs = Costs(
        teacher_macs=count_macs(module, inputs),
        student_macs=count_macs(student, tuple(x.to(home) for x in inputs)),
        examples=len(data.train),
        epochs=recipe.epochs,
        answer_bytes=form.answer_bytes,
        augmented=bool(data.augmentation) or _masks_at_random(task),
    )
    decision = decide(choice, costs)
    note = f"teacher cache: {decision.reason}"
    context.progress.say(note)
    if not decision.views:
        return _noted(Teacher(module), note)
    identity = {
        "teacher": state_digest(module),
        "network": re.sub(r" at 0x[0-9a-f]+", "", repr(module)),
        "data": data.fingerprint or _content_digest(data),
        "collate": repr(data.collate),
        "augmentation": list(data.augmentation),
        "preprocessing": list(data.preprocessing),
        "examples": len(data.train),
        "form": form.name,
    }
    compute = form.computer(context)
    kept = AnswerCache(cache_folder() / "teachers", identity, len(data.train), compute, settings.max_bytes)
    teacher = CachedTeacher(module, kept, decision.views, context, device, form.temperature, form.vocabulary)
    return _noted(teacher, note)


def _noted(teacher: Teacher, note: str) -> Teacher:
    teacher.notes = (note,)
    return teacher


class _Form:
    """In which form answers are kept: logits of each example, or the likeliest tokens of each position."""

    def __init__(
        self,
        module: nn.Module,
        data: Data,
        task: Task,
        terms: Sequence[LossTerm],
        settings: Cache,
        device: torch.device,
    ) -> None:
        self.module, self.data, self.device, self.settings = module, data, device, settings
        self.temperature: float | None = None
        self.vocabulary = 0
        self.kind = torch.float16 if task.distillation == "classes" else torch.float32
        if task.class_axis == -1:
            self.temperature = next(term.kl.temperature for term in terms if term.kl is not None)
            assert data.text is not None
            self.vocabulary = vocabulary(module, data, device)
            self.k = min(settings.top, self.vocabulary)
            self.tokens = max(data.text.max_length, data.text.target_max_length or 0)
            self.name = f"top-{self.k}-of-{self.tokens}-at-{self.temperature:g}"
            self.answer_bytes = self.tokens * (6 * self.k + 2)
            return
        self.name = str(self.kind)
        batch = to_torch(data.batch(data.train, np.arange(1)), device)
        with torch.no_grad():
            self.answer_bytes = self.kind.itemsize * module(*batch.inputs).numel()

    def computer(self, context: Context) -> Any:
        """What makes the answers."""
        if self.temperature is None:
            return answer_computer(self.module, self.data, context, self.device, self.kind)
        return top_computer(
            self.module, self.data, context, self.device, k=self.k, temperature=self.temperature, tokens=self.tokens
        )


def _obstacle(terms: Sequence[LossTerm], task: Task, context: Context, *, alone: bool) -> str | None:
    """Why the teacher's answers cannot be kept."""
    if context.rehearsal:
        return "off: this is a rehearsal"
    if all(term.name in LABELS for term in terms):  # views would only take augmentation away
        return "off: no loss reads the teacher's answers"
    if peering := looks_inside(terms):
        return f"off: {', '.join(peering)} need the teacher itself at every step"
    return _obstacle_of_texts(terms, alone=alone) if task.class_axis == -1 else None


def _obstacle_of_texts(terms: Sequence[LossTerm], *, alone: bool) -> str | None:
    """Why answers to each token of a text cannot be kept."""
    reading = [term for term in terms if term.name not in LABELS]
    others = sorted({term.name for term in reading if term.name != "kl"})
    if others:
        return f"off: of answers to texts the likeliest tokens are kept, which {', '.join(others)} cannot use"
    if not alone:
        return "off: answers of several teachers to texts are not kept"
    temperatures = {term.kl.temperature for term in reading if term.kl is not None}
    shaped = [term.settings for term in reading if isinstance(term.settings, Response) and term.settings.standardize]
    if len(temperatures) != 1 or shaped:
        return "off: the likeliest tokens are kept for one `kl` of one temperature, not standardized"
    return None


def _masks_at_random(task: Task) -> bool:
    """Whether every epoch hides other tokens, which is an augmentation of texts."""
    return task.name == "masked-lm"


def _content_digest(data: Data) -> str:
    """Of data that were made in memory and have no fingerprint."""
    total = hashlib.sha256()
    for start in range(0, len(data.train), 256):
        batch = data.batch(data.train, np.arange(start, min(start + 256, len(data.train))))
        for array in (*batch.inputs, batch.targets):
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
