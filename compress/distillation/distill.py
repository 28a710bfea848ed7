"""A student learns from a teacher's answers, from what lies inside of it, and from the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.data.dataset import Data
from compress.distillation.ensemble import Ensemble, MovingAverage, OlderSelf, averaged
from compress.distillation.loss_term import LossTerm
from compress.distillation.method import Distillation
from compress.distillation.open_teacher import open_teacher
from compress.distillation.teacher import Teacher
from compress.distillation.teacher_settings import Average, CacheChoice, OwnPast
from compress.distillation.terms.site import Side, Site
from compress.distillation.terms.table import LABELS, check_fit, looks_inside, place_terms
from compress.errors import UsageError
from compress.generation.on_policy import OnPolicy
from compress.generation.settings import OnPolicySettings
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.device import training_device
from compress.training.fit import fit
from compress.training.log import FitLog
from compress.training.memory_format import from_work, to_work
from compress.training.method import Method
from compress.training.settings import Recipe

AnyLosses = Iterable[LossTerm | Mapping[str, Any] | str] | None


@dataclass(frozen=True)
class Voice:
    """One of several teachers: its network, its share, and the class numbers that it teaches (None: all)."""

    module: nn.Module
    weight: float = 1.0
    domain: tuple[int, ...] | None = None


def default_losses(task: Task) -> tuple[LossTerm, ...]:
    """Softened classes and some of the labels where outputs are classes; the teacher's values and the targets else."""
    if task.distillation == "classes":
        terms: list[dict[str, Any]] = [{"kl": {"temperature": 4.0, "weight": 0.9}}, {"task": {"weight": 0.1}}]
    else:
        terms = [{"mse": {"weight": 1.0}}, {"task": {"weight": 1.0}}]
    return tuple(LossTerm.model_validate(term) for term in terms)


def chosen_losses(losses: AnyLosses, task: Task) -> tuple[LossTerm, ...]:
    """The terms to use: those given (as settings or as YAML has them) or the task's default.

    Raises:
        UsageError: a term needs classes and the task has values.
    """
    if losses is None:
        return default_losses(task)
    terms = tuple(term if isinstance(term, LossTerm) else LossTerm.model_validate(term) for term in losses)
    check_fit(terms, task)
    return terms


def distill(
    student: nn.Module,
    teacher: nn.Module | Sequence[Voice] | OwnPast,
    data: Data,
    task: Task,
    recipe: Recipe,
    losses: AnyLosses = None,
    context: Context | None = None,
    *,
    cache: CacheChoice = "auto",
    average: Average | None = None,
    on_policy: OnPolicySettings | None = None,
    around: Callable[[Method], Method] | None = None,
) -> FitLog:
    """Train `student` in place to answer like its teacher, which is put into evaluation mode and left as it is.

    Args:
        student: ends in evaluation mode with the weights that the recipe keeps.
        teacher: any module whose outputs have the student's shape; several of them; or the student's own past.
        data: examples; the teacher sees the same augmented ones as the student.
        task: gives the targets' loss and the validation metric.
        recipe: how long and how fast.
        losses: terms, each with its weight; None for `default_losses`.
        context: seed, device, threads, processes, checkpoints.
        cache: whether the teacher's answers are kept on disk for all epochs (`compress.distillation.caching`).
        average: of several teachers; None: probabilities of classes, values themselves.
        on_policy: whether the student's own samples are learnt from as well (`compress.generation.on_policy`).
        around: gives the method to train by from that of distillation; None: that itself.

    Raises:
        UsageError: teacher and student answer in different shapes, or a loss or the average does not fit networks or
            task; the student cannot sample texts; as `fit`.
        StageError: as `fit` does.
    """
    context = context or Context()
    voices = [] if isinstance(teacher, OwnPast) else [Voice(teacher)] if isinstance(teacher, nn.Module) else teacher
    homes = [(voice.module, next((p.device for p in voice.module.parameters()), None)) for voice in voices]
    try:
        keep: CacheChoice = "off" if on_policy else cache
        found = method_for(student, teacher, data, task, recipe, losses, context, cache=keep, average=average)
        method = found if on_policy is None else _on_policy(found, data, on_policy, context)
        log = fit(student, data, task, around(method) if around else method, recipe, context=context)
        return replace(log, notes=found.teacher.notes)
    finally:
        for module, home in homes:
            if home is not None:
                from_work(module, home)


def _on_policy(method: Distillation, data: Data, settings: OnPolicySettings, context: Context) -> Method:
    """Also of the student's own samples, which no label tells anything about."""
    terms = nn.ModuleList(term for term in method.terms if getattr(term, "reads_teacher", False))
    if not len(terms):
        raise UsageError("on_policy: needs a loss between the answers of student and teacher, such as `kl` or `jsd`")
    own = Distillation(method.teacher, terms, method.task, method.mask_input)
    return OnPolicy(method, own, data, settings, context.rank)


def method_for(
    student: nn.Module,
    teacher: nn.Module | Sequence[Voice] | OwnPast,
    data: Data,
    task: Task,
    recipe: Recipe,
    losses: AnyLosses = None,
    context: Context | None = None,
    *,
    cache: CacheChoice = "auto",
    average: Average | None = None,
    inside: bool = True,
) -> Distillation:
    """The method that `distill` trains by, its teachers on the training device; arguments as there.

    `inside` says whether the student's modules can be watched while it runs (those of an exported graph cannot).

    Raises:
        UsageError: as `distill` does.
    """
    context = context or Context()
    terms = chosen_losses(losses, task)
    peering = looks_inside(terms)
    if peering and not inside:
        raise UsageError(f"losses: {', '.join(peering)} look inside of the student, which is not possible in int8 "
                         "training: use losses between answers")  # fmt: skip
    mask = data.input_names.index("attention_mask") if "attention_mask" in data.input_names else None
    if isinstance(teacher, OwnPast):
        if all(term.name not in LABELS for term in terms) and teacher.past is not None:
            raise UsageError("losses: a student that learns from its past needs the labels as well: add `task`")
        own: Teacher = MovingAverage(student, teacher.ema) if teacher.ema else OlderSelf(student, teacher.past or 1)
        assert own.module is not None
        placed = place_terms(terms, _site(student, own.module, data, task, context), context.seed)
        return Distillation(own, placed, task, mask)
    voices = [Voice(teacher)] if isinstance(teacher, nn.Module) else list(teacher)
    if peering and len(voices) > 1:
        raise UsageError(f"losses: {', '.join(peering)} look inside of one teacher, and there are {len(voices)}")
    how = averaged(average if len(voices) > 1 else None, task)
    device = training_device(context)
    for voice in voices:
        to_work(voice.module, device).eval()
    placed = place_terms(terms, _site(student, voices[0].module, data, task, context), context.seed)
    measured = student if inside else voices[0].module
    opened = [
        open_teacher(voice.module, measured, data, task, recipe, terms, context, cache, alone=len(voices) == 1)
        for voice in voices
    ]
    if len(voices) == 1:
        return Distillation(opened[0], placed, task, mask)
    domains = [None if v.domain is None else torch.tensor(v.domain) for v in voices]
    weights = [voice.weight for voice in voices]
    several = Ensemble(opened, weights, domains, how, task.class_axis)
    return Distillation(several, placed, task, mask)


def _site(student: nn.Module, teacher: nn.Module, data: Data, task: Task, context: Context) -> Any:
    def make() -> Site:
        targets = data.train.targets(np.arange(len(data.train)))
        classes = torch.from_numpy(targets) if targets.ndim == 1 and targets.dtype == np.int64 else None
        if classes is not None and (classes.min() < 0 or classes.min() == classes.max()):
            classes = None
        sides = Side.of("student", student, data), Side.of("teacher", teacher, data)
        return Site(*sides, task, len(data.train), classes, context.seed)

    return make
