"""Losses between answers, and those of the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from compress.data.collate import IGNORED
from compress.distillation.exchange import Exchange, Rows, check_answers, refuse_vocabularies
from compress.distillation.loss_settings import Response
from compress.distillation.losses.dist import dist
from compress.distillation.losses.dkd import dkd
from compress.distillation.losses.jsd import generalized_jsd
from compress.distillation.losses.kl import kl
from compress.distillation.losses.mlkd import mlkd
from compress.distillation.losses.mse import mse
from compress.distillation.losses.reverse_kl import reverse_kl
from compress.distillation.losses.soft_cross_entropy import soft_cross_entropy
from compress.distillation.losses.standardize import standardize
from compress.distillation.losses.top_kl import top_kl
from compress.distillation.terms.base import Term
from compress.training.method import label_loss

RESPONSES: dict[str, Callable[[Any, Rows], Tensor]] = {
    "kl": lambda s, r: kl(r.student, r.teacher, s.temperature),
    "soft_cross_entropy": lambda s, r: soft_cross_entropy(r.student, r.teacher, s.temperature),
    "mse": lambda s, r: mse(r.student, r.teacher),
    "reverse_kl": lambda s, r: reverse_kl(r.student, r.teacher, s.temperature),
    "jsd": lambda s, r: generalized_jsd(r.student, r.teacher, s.beta, s.temperature),
    "dkd": lambda s, r: dkd(r.student, r.teacher, r.labels, s.alpha, s.beta, s.temperature),
    "dist": lambda s, r: dist(r.student, r.teacher, s.beta, s.gamma, s.temperature),
    "mlkd": lambda s, r: mlkd(r.student, r.teacher, s.temperatures, (s.instance, s.batch, s.by_class)),
}
"""The table of response losses: a term's name in YAML -> its function of settings and rows."""

OF_VALUES = ("mse",)
"""Response losses that need no classes."""


class ResponseTerm(Term):
    """A loss between the answers of both."""

    def __init__(self, name: str, settings: Response) -> None:
        super().__init__(settings)
        self.name = name

    def forward(self, exchange: Exchange) -> Tensor:
        """The loss over the positions that count; 0 if none does."""
        settings: Any = self.settings
        if exchange.task.distillation == "values":
            check_answers(exchange.student.logits, exchange.teacher.logits)
            return mse(exchange.student.logits, exchange.teacher.logits)
        if exchange.teacher.top is not None:
            return self._from_top(exchange)
        rows = exchange.rows(settings.positions)
        if not len(rows.student):
            return exchange.student.logits.sum() * 0
        if settings.standardize:
            rows = Rows(standardize(rows.student), standardize(rows.teacher), rows.targets)
        return RESPONSES[self.name](settings, rows)

    def _from_top(self, exchange: Exchange) -> Tensor:
        """The divergence from the likeliest tokens, which is all that was kept of the teacher's answers."""
        settings: Any = self.settings
        counted = exchange.counted(settings.positions)
        if not counted.any():
            return exchange.student.logits.sum() * 0
        assert exchange.teacher.top is not None
        top = exchange.teacher.top.at(counted)
        rows = exchange.student.logits.flatten(0, -2)[counted]
        if rows.shape[1] != top.vocabulary:
            refuse_vocabularies(top.vocabulary, rows.shape[1])
        return top_kl(rows, top.indices, top.log_probabilities, top.log_rest, top.temperature)


class LabelTerm(Term):
    """A loss between the student and the targets; examples without a label do not count."""

    reads_teacher = False

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(settings)
        self.name = name

    def forward(self, exchange: Exchange) -> Tensor:
        """The task's loss, or the cross-entropy with smoothed labels."""
        outputs, targets, settings = exchange.student.logits, exchange.targets, self.settings
        known = exchange.labelled
        if known is not None:
            if not known.any():
                return outputs.sum() * 0
            outputs, targets = outputs[known], targets[known]
        if not targets.is_floating_point() and not targets.ne(IGNORED).any():
            return outputs.sum() * 0
        return label_loss(exchange.task, outputs, targets, getattr(settings, "label_smoothing", None))
