"""Distillation as a way to train: the weighted sum of loss terms between a student, its teacher and the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.exchange import Exchange, answer_mask, refuse_vocabularies
from compress.distillation.large_vocabulary import Head, can_chunk, chunked_sum, head_of, headless, is_large
from compress.distillation.outputs import Seen, observe
from compress.distillation.teacher import Teacher
from compress.distillation.terms.base import Term
from compress.tasks.task import Task
from compress.training.method import Method, TorchBatch, TrainingProgress

Heads = tuple[Head, Head | None]


class Distillation(Method):
    """Learn from a teacher by the given terms, which may hold parts that are learnt with the student.

    Args:
        teacher: answers each batch.
        terms: `Term`s, placed between the student and this teacher.
        task: gives the labels' loss.
        mask_input: which of the inputs is the attention mask; None if there is none.
    """

    def __init__(self, teacher: Teacher, terms: nn.ModuleList, task: Task, mask_input: int | None = None) -> None:
        self.teacher = teacher
        self.terms = terms
        self.task = task
        self.mask_input = mask_input

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """Sum of weight times term, over the terms that count now."""
        counting = self._counting(progress)
        heads = self._heads(model, batch, counting)
        if heads is not None:
            return self._chunked(model, batch, counting, heads)
        taught = [term for term, _ in counting if term.reads_teacher]
        answer = self.teacher(batch, _points(taught, "teacher_points"), progress) if taught else None
        if answer is None:
            counting = [(term, weight) for term, weight in counting if not term.reads_teacher]
        seen = observe(model, batch.inputs, _points([term for term, _ in counting], "student_points"))
        exchange = Exchange(
            student=seen,
            teacher=answer or Seen(seen.logits.detach()),
            targets=batch.targets,
            indices=batch.indices,
            task=self.task,
            progress=progress,
            mask=self._mask(batch),
            inputs=batch.inputs,
        )
        return sum((weight * term(exchange) for term, weight in counting), start=seen.logits.sum() * 0)

    def modules(self) -> nn.Module | None:
        """The terms, if they have learnt parts or banks."""
        has_state = any(True for _ in self.terms.parameters()) or any(True for _ in self.terms.buffers())
        return self.terms if has_state else None

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        """Teachers that follow the student look at it."""
        self.teacher.before_step(model, progress)

    @property
    def needs_labels(self) -> bool:
        """Where no term asks the teacher."""
        return not any(getattr(term, "reads_teacher", True) for term in self.terms)

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """The teacher's."""
        return self.teacher.augmentation(seed, epoch)

    def state_dict(self) -> dict[str, Any]:
        """The teacher's."""
        return self.teacher.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The teacher's."""
        self.teacher.load_state_dict(state)

    def _heads(self, model: nn.Module, batch: TorchBatch, counting: Sequence[tuple[Term, float]]) -> Heads | None:
        """The last layers of student and teacher, if the batch's logits are too many to be made at once."""
        if self.task.class_axis != -1 or batch.targets.ndim != 2 or not can_chunk(counting):
            return None
        student = head_of(model)
        if student is None or not is_large(batch.targets, student):
            return None
        if not any(term.reads_teacher for term, _ in counting):
            return student, None
        teacher = None if self.teacher.module is None else head_of(self.teacher.module)
        if teacher is None or type(self.teacher) is not Teacher:
            return None
        if teacher.vocabulary != student.vocabulary:
            refuse_vocabularies(teacher.vocabulary, student.vocabulary)
        return student, teacher

    def _chunked(
        self, model: nn.Module, batch: TorchBatch, counting: Sequence[tuple[Term, float]], heads: Heads
    ) -> Tensor:
        student, teacher = heads
        theirs = None
        if teacher is not None:
            assert self.teacher.module is not None
            with torch.no_grad(), headless(teacher):
                theirs = self.teacher.module(*batch.inputs)
        with headless(student):
            own = model(*batch.inputs)
        everywhere = answer_mask(self.task, self._mask(batch), batch.targets)
        return chunked_sum(counting, own, student, theirs, teacher, batch.targets, everywhere)

    def _mask(self, batch: TorchBatch) -> Tensor | None:
        return None if self.mask_input is None else batch.inputs[self.mask_input]

    def _counting(self, progress: TrainingProgress) -> list[tuple[Term, float]]:
        found = []
        for term in self.terms:
            assert isinstance(term, Term)
            weight = term.weight(progress.fraction)
            if weight:
                found.append((term, weight))
        return found


def _points(terms: Sequence[Term], which: str) -> list[str]:
    return [point for term in terms for point in getattr(term, which)]
