"""What a loss may compare in one step: the answers of student and teacher, what lies inside of both, the targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NoReturn

import torch
from torch import Tensor

from compress.data.collate import IGNORED
from compress.distillation.outputs import Seen
from compress.errors import UsageError
from compress.tasks.task import Task
from compress.training.method import TrainingProgress

ENCODER = "encoder"
"""What `transformers` calls the half of a network that reads the other text, as a part of its modules' paths."""


@dataclass(frozen=True)
class Rows:
    """Distributions side by side: logits (rows, classes) of both, class numbers (rows,), below 0 where unknown."""

    student: Tensor
    teacher: Tensor
    targets: Tensor | None

    @property
    def labels(self) -> Tensor:
        """Class numbers; where there is no label, the teacher's own choice stands in."""
        chosen = self.teacher.argmax(dim=1)
        return chosen if self.targets is None else torch.where(self.targets >= 0, self.targets, chosen)


@dataclass(frozen=True)
class Exchange:
    """One step's material. `mask` is (examples, tokens), 1 for what is no padding; None where nothing is padded."""

    student: Seen
    teacher: Seen
    targets: Tensor
    indices: Tensor
    task: Task
    progress: TrainingProgress
    mask: Tensor | None = None
    inputs: tuple[Tensor, ...] = ()
    _rows: dict[str, Rows] = field(default_factory=dict, repr=False)

    def rows(self, positions: Literal["targets", "all"] = "targets") -> Rows:
        """The logits of every position that counts, in rows; see `Response.positions`.

        Raises:
            UsageError: student and teacher answer in different shapes.
        """
        if positions not in self._rows:
            self._rows[positions] = self._make_rows(positions)
        return self._rows[positions]

    def counted(self, positions: Literal["targets", "all"]) -> Tensor:
        """Which positions of the student's answers (examples, tokens, classes) count, flat and boolean."""
        if positions == "all":
            return answer_mask(self.task, self.mask, self.targets).reshape(-1)
        return self.targets.reshape(-1).ne(IGNORED)

    @cached_property
    def labelled(self) -> Tensor | None:
        """Which examples have a label: no negative class, no nan among values; None if all have one."""
        if self.targets.is_floating_point():
            known = self.targets.flatten(1).isfinite().all(1) if self.targets.ndim > 1 else self.targets.isfinite()
        elif self.targets.ndim == 1:
            known = self.targets >= 0
        else:
            return None
        return None if bool(known.all()) else known

    def token_mask(self, tokens: Tensor, point: str) -> Tensor:
        """The mask that fits the states (examples, tokens, ...) at a point: of ones where nothing is padded."""
        size = tuple(tokens.shape[:2])
        of_answers = self.targets.ndim == 2 and tuple(self.targets.shape) == size
        if of_answers and _reads_another(self.task) and ENCODER not in point.split("."):
            return answer_mask(self.task, self.mask, self.targets)
        if self.mask is not None and tuple(self.mask.shape) == size:
            return self.mask
        if of_answers:
            return self.targets.ne(IGNORED)
        return torch.ones(size, dtype=torch.long, device=tokens.device)

    def _make_rows(self, positions: Literal["targets", "all"]) -> Rows:
        student, teacher = self.student.logits, self.teacher.logits
        check_answers(student, teacher, self.task)
        if student.ndim == 2:
            targets = self.targets if self.targets.ndim == 1 and not self.targets.is_floating_point() else None
            return Rows(student, teacher, targets)
        if self.task.class_axis == 1:
            student, teacher = student.movedim(1, -1), teacher.movedim(1, -1)
        classes = student.shape[-1]
        rows = Rows(student.reshape(-1, classes), teacher.reshape(-1, classes), None)
        if tuple(self.targets.shape) != tuple(student.shape[:-1]) or self.targets.is_floating_point():
            return rows
        targets = self.targets.reshape(-1)
        counted = self.counted(positions)
        return Rows(rows.student[counted], rows.teacher[counted], targets[counted])


def answer_mask(task: Task, mask: Tensor | None, targets: Tensor) -> Tensor:
    """Which of the answers to tokens are those of no padding: truths of (examples, tokens).

    Of a decoder that reads another text's encoder the mask is that text's, even where both are as long: there every
    token that is said has a target.

    Args:
        task: tells whether there are two texts.
        mask: (examples, tokens) of the input, 1 for real tokens; None if there is none.
        targets: (examples, tokens), `IGNORED` where there is none.
    """
    if mask is not None and not _reads_another(task) and mask.shape == targets.shape:
        return mask.bool()
    return targets.ne(IGNORED)


def _reads_another(task: Task) -> bool:
    """Whether the answers are about the tokens of another text than that which the mask is of."""
    return task.name == "sequence-to-sequence"


def check_answers(student: Tensor, teacher: Tensor, task: Task | None = None) -> None:
    """UsageError unless both answer in the same shape."""
    if student.shape == teacher.shape:
        return
    if task is not None and task.class_axis == -1 and student.ndim == teacher.ndim == 3:
        refuse_vocabularies(teacher.shape[-1], student.shape[-1])
    shapes = f"{tuple(teacher.shape[1:])} per example, the student's {tuple(student.shape[1:])}"
    raise UsageError(f"the teacher's output has shape {shapes}: they must answer the same question")


def refuse_vocabularies(teacher: int, student: int) -> NoReturn:
    """UsageError that says what to do with a teacher of another vocabulary."""
    raise UsageError(
        f"the teacher's vocabulary has {teacher:,} tokens, the student's {student:,}: their answers cannot be compared "
        "token by token; use a teacher with the student's tokenizer, or train on the texts that it writes (`generate`)"
    )
