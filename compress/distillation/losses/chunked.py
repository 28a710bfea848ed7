"""A response loss for large vocabularies: a few rows' logits at a time, the gradient taken on the way forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

RowLoss = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


def rows_per_chunk(vocabulary: int, bytes: int = 2**26) -> int:
    """Rows whose logits in float32 take at most `bytes`, and 1 at least.

    A loss keeps several tensors of that size alive: student's, teacher's, their probabilities, a gradient.
    """
    return max(1, bytes // (4 * vocabulary))


def chunked_loss(
    student_hidden: Tensor,
    student_matrix: Tensor,
    teacher_hidden: Tensor | None,
    teacher_matrix: Tensor | None,
    targets: Tensor | None,
    *,
    row_loss: RowLoss,
    chunk: int,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
) -> Tensor:
    """The mean over rows of a loss of logits = hidden @ matrix^T + bias, never holding more than `chunk` rows of them.

    Plain autograd keeps the logits of all rows for the way back: with 8 texts of 512 tokens and 50,000 words that is
    820 MB for each tensor of the loss. Here each chunk's gradient is taken as soon as its loss is known, and only the
    sums for hidden, matrix and bias are kept (the way of Hsu et al. 2024, "Liger Kernel", with ordinary operations).
    The gradient can be taken once. There is none into the teacher, nor into parameters of `row_loss`.

    Args:
        student_hidden: (rows, student's width).
        student_matrix: (vocabulary, student's width); may be the embedding, whose other uses add their gradients.
        teacher_hidden: (rows, teacher's width), or None: `row_loss` is then given None for the teacher's logits.
        teacher_matrix: (vocabulary, teacher's width), or None with `teacher_hidden`.
        targets: (rows,), long, or None if `row_loss` needs none.
        row_loss: of a chunk's student logits, teacher logits and targets: a scalar, the sum over the chunk's rows.
        chunk: rows at a time, 1 or more; see `rows_per_chunk`.
        student_bias: (vocabulary,) or None.
        teacher_bias: (vocabulary,) or None.

    Raises:
        ValueError: chunk is under 1, the teacher is half given, or rows of student, teacher and targets differ.
        RuntimeError: on the way back, if the gradient was taken before.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: it must be 1 or more")
    if (teacher_hidden is None) != (teacher_matrix is None):
        raise ValueError("the teacher's hidden and matrix are given both or not at all")
    rows = [len(tensor) for tensor in (student_hidden, teacher_hidden, targets) if tensor is not None]
    if len(set(rows)) > 1:
        raise ValueError(f"student, teacher and targets have different numbers of rows: {rows}")
    student = _Head.cast(student_hidden, student_matrix, student_bias)
    teacher = None
    if teacher_hidden is not None and teacher_matrix is not None:
        teacher = _Head.cast(teacher_hidden, teacher_matrix, teacher_bias)
    work = _Work(teacher, targets, row_loss, chunk)
    with torch.autocast(student_hidden.device.type, enabled=False):
        if torch.is_grad_enabled() and any(student.wanted()):
            loss: Tensor = _Chunked.apply(student.hidden, student.matrix, student.bias, work)  # type: ignore[no-untyped-call]
            return loss
        with torch.no_grad():
            return _mean(student, work, None)


@dataclass(frozen=True)
class _Head:
    """What makes logits: hidden (rows, width), matrix (vocabulary, width), bias (vocabulary,) or None."""

    hidden: Tensor
    matrix: Tensor
    bias: Tensor | None

    @classmethod
    def cast(cls, hidden: Tensor, matrix: Tensor, bias: Tensor | None) -> _Head:
        """In autocast's type where autocast is on, as its own linear layers do; inside of the loss it is then off."""
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            hidden, matrix, bias = hidden.to(kind), matrix.to(kind), None if bias is None else bias.to(kind)
        return cls(hidden, matrix, bias)

    def wanted(self) -> tuple[bool, ...]:
        return tuple(tensor is not None and tensor.requires_grad for tensor in (self.hidden, self.matrix, self.bias))

    def logits(self, rows: slice) -> Tensor:
        return functional.linear(self.hidden[rows], self.matrix, self.bias)


@dataclass(frozen=True)
class _Work:
    """What a chunk needs beside the student."""

    teacher: _Head | None
    targets: Tensor | None
    row_loss: RowLoss
    chunk: int


class _Sums:
    """Gradients of the sum over rows, filled chunk by chunk; None for a tensor that wants none."""

    def __init__(self, student: _Head, wanted: tuple[bool, ...]) -> None:
        # Matrix and bias get one addition a chunk: in half precision the later ones would be lost.
        wide = torch.promote_types(student.matrix.dtype, torch.float32)
        self.hidden = torch.empty_like(student.hidden) if wanted[0] else None
        self.matrix = torch.zeros_like(student.matrix, dtype=wide) if wanted[1] else None
        self.bias = student.matrix.new_zeros(len(student.matrix), dtype=wide) if wanted[2] else None

    def add(self, gradient: Tensor, student: _Head, rows: slice) -> None:
        """The share of a chunk's logits: `gradient` is (rows of the chunk, vocabulary)."""
        if self.hidden is not None:
            self.hidden[rows] = gradient @ student.matrix
        if self.matrix is not None and self.matrix.dtype == gradient.dtype:
            self.matrix.addmm_(gradient.T, student.hidden[rows])  # no second tensor of the matrix's size
        elif self.matrix is not None:
            self.matrix += gradient.T @ student.hidden[rows]
        if self.bias is not None:
            self.bias += gradient.sum(0, dtype=self.bias.dtype)


class _Chunked(torch.autograd.Function):
    """The mean over rows, with gradients of hidden, matrix and bias that were taken in `forward`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, matrix: Tensor, bias: Tensor | None, work: _Work) -> Tensor:
        student = _Head(hidden, matrix, bias)
        ctx.sums = _Sums(student, ctx.needs_input_grad[:3])
        ctx.rows = len(hidden)
        ctx.types = hidden.dtype, matrix.dtype, matrix.dtype if bias is None else bias.dtype
        return _mean(student, work, ctx.sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.sums is None:
            raise RuntimeError("the gradient of chunked_loss can be taken once: compute the loss again")
        # In place, for want of room for a second matrix: hence only once.
        sums, ctx.sums = ctx.sums, None
        scale = gradient / max(1, ctx.rows)
        found = (sums.hidden, sums.matrix, sums.bias)
        scaled = (None if one is None else one.mul_(scale).to(kind) for one, kind in zip(found, ctx.types, strict=True))
        return *scaled, None


def _mean(student: _Head, work: _Work, sums: _Sums | None) -> Tensor:
    """Sum over chunks divided by the rows; fills `sums` if given. Called where autograd records nothing."""
    rows = len(student.hidden)
    total = student.hidden.new_zeros((), dtype=torch.promote_types(student.hidden.dtype, torch.float32))
    for start in range(0, rows, work.chunk):
        total += _chunk(student, work, sums, slice(start, min(rows, start + work.chunk)))
    return total / max(1, rows)  # no rows (all ignored): 0, without a gradient


def _chunk(student: _Head, work: _Work, sums: _Sums | None, rows: slice) -> Tensor:
    """The loss of some rows. A function of its own, so that its logits are gone when it returns."""
    logits = student.logits(rows)
    of_teacher = None if work.teacher is None else work.teacher.logits(rows)
    targets = None if work.targets is None else work.targets[rows]
    if sums is None:
        return work.row_loss(logits, of_teacher, targets)
    with torch.enable_grad():
        value = work.row_loss(logits.requires_grad_(), of_teacher, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    sums.add(gradient, student, rows)
    return value.detach()
