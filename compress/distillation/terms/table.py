"""Loss terms of a pipeline -> terms placed between two networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from compress.distillation.loss_term import LossTerm
from compress.distillation.terms.base import Term
from compress.distillation.terms.feature import FEATURES
from compress.distillation.terms.layers import LAYERS
from compress.distillation.terms.response import OF_VALUES, RESPONSES, LabelTerm, ResponseTerm
from compress.distillation.terms.site import Site
from compress.errors import UsageError
from compress.tasks.task import Task
from compress.training.randomness import derived_seed, preserved_randomness

LABELS = ("task", "cross_entropy")
"""Losses that need no teacher."""


def place_terms(losses: Sequence[LossTerm], site: Callable[[], Site], seed: int) -> nn.ModuleList:
    """The terms in order; those that look inside of the networks run them once, on the site.

    Learned parts begin as the seed says; global generators are left as they were.

    Raises:
        UsageError: a module that is not there, features that do not fit, or a loss that these networks cannot have.
    """
    placed: list[Term] = []
    there: Site | None = None
    with preserved_randomness():
        for number, term in enumerate(losses):
            torch.manual_seed(derived_seed(seed, "terms", number))
            if term.name in LABELS:
                placed.append(LabelTerm(term.name, term.settings))
            elif term.name in RESPONSES:
                placed.append(ResponseTerm(term.name, term.settings))  # type: ignore[arg-type]
            else:
                there = there or site()
                placed.append((FEATURES | LAYERS)[term.name](term.name, term.settings, there))
    return nn.ModuleList(placed)


def check_fit(losses: Iterable[LossTerm], task: Task) -> None:
    """UsageError if a term needs classes, or its logits standardized, and the task has values."""
    losses = tuple(losses)
    needing = [*(set(RESPONSES) - set(OF_VALUES)), "cross_entropy"]
    wrong = [term.name for term in losses if term.name in needing]
    if wrong and task.distillation != "classes":
        names = ", ".join(wrong)
        raise UsageError(f"losses: {names} need classes, and the task {task.name} has values: use mse and task")
    if task.distillation != "classes" and any(term.mse is not None and term.mse.standardize for term in losses):
        raise UsageError(
            f"losses: mse.standardize has no effect on the values of the task {task.name}, only on logits: leave it out"
        )


def looks_inside(losses: Iterable[LossTerm]) -> list[str]:
    """The names of the terms that read more than answers."""
    return [term.name for term in losses if term.name in FEATURES or term.name in LAYERS]
