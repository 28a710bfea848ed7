"""Distillation over large vocabularies: the terms see a few rows' logits at a time, full logits never exist.

The networks run without their last layer, whose matrix and input go to `losses.chunked`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from compress.data.collate import IGNORED
from compress.distillation.exchange import Rows
from compress.distillation.losses.chunked import chunked_loss, rows_per_chunk
from compress.distillation.losses.numerics import wide
from compress.distillation.losses.standardize import standardize
from compress.distillation.terms.base import Term
from compress.distillation.terms.response import RESPONSES, LabelTerm, ResponseTerm

LARGE_BYTES = 2**26
"""Logits of a batch that take more than this are never made as a whole."""
BY_ROW = frozenset({"kl", "soft_cross_entropy", "mse", "reverse_kl", "jsd", "dkd"})
"""Response losses that are a mean over rows, so that rows can be taken apart."""

_ADDED_TO_THE_HEAD = "final_logits_bias"
"""The buffer that BART and its like add to what the last layer gives."""
_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "logits_scale")
"""Settings of networks whose logits are not what the last layer gives, but capped or scaled."""

Weighed = Sequence[tuple[Term, float]]


@dataclass(frozen=True)
class Head:
    """The last layer of a network: logits = hidden @ weight^T + bias."""

    layer: nn.Linear

    @property
    def vocabulary(self) -> int:
        """How many tokens it tells apart."""
        return int(self.layer.weight.shape[0])


def head_of(module: nn.Module) -> Head | None:
    """The output layer of a `transformers` language model, if its logits are that layer's output and nothing more."""
    for part in module.modules():
        find = getattr(part, "get_output_embeddings", None)
        if find is None:
            continue
        layer = find()
        changed = any(getattr(part.config, name, None) not in (None, 1) for name in _AFTER_THE_HEAD)
        changed = changed or hasattr(part, _ADDED_TO_THE_HEAD)
        return Head(layer) if isinstance(layer, nn.Linear) and not changed else None
    return None


@contextmanager
def headless(head: Head) -> Iterator[None]:
    """Inside the block the network gives the last hidden states in place of logits."""
    layer: Any = head.layer
    layer.forward = lambda hidden: hidden
    try:
        yield
    finally:
        del layer.forward


def can_chunk(terms: Weighed) -> bool:
    """Whether all terms are means over rows of answers, and look nowhere else."""
    return all(
        isinstance(term, LabelTerm) or (isinstance(term, ResponseTerm) and term.name in BY_ROW) for term, _ in terms
    )


def is_large(targets: Tensor, head: Head) -> bool:
    """Whether the logits of a batch are too many to make at once; `targets` are (examples, tokens)."""
    return 4 * targets.numel() * head.vocabulary > LARGE_BYTES


def chunked_sum(
    terms: Weighed,
    student_hidden: Tensor,
    student: Head,
    teacher_hidden: Tensor | None,
    teacher: Head | None,
    targets: Tensor,
    everywhere: Tensor,
) -> Tensor:
    """The weighted sum of the terms, as if from full logits.

    Args:
        terms: with their weights; of those that `can_chunk` lets pass.
        student_hidden: (examples, tokens, width) before the last layer.
        student: that layer.
        teacher_hidden: likewise; None where no term reads the teacher.
        teacher: likewise.
        targets: (examples, tokens), `IGNORED` where nothing is to be learnt from labels.
        everywhere: (examples, tokens), true for what is no padding (`compress.distillation.exchange.answer_mask`).
    """
    labels = targets.reshape(-1)
    counted = labels.ne(IGNORED)
    places = {"targets": counted, "all": everywhere.reshape(-1)}
    total = student_hidden.sum() * 0
    for positions, here in places.items():
        group = [
            (term, weight) for term, weight in terms if getattr(term.settings, "positions", "targets") == positions
        ]
        if not group or not here.any():
            continue
        total = total + chunked_loss(
            student_hidden.reshape(-1, student_hidden.shape[-1])[here],
            student.layer.weight,
            None if teacher_hidden is None else teacher_hidden.reshape(-1, teacher_hidden.shape[-1])[here],
            None if teacher is None or teacher_hidden is None else teacher.layer.weight,
            labels[here],
            row_loss=_row_loss(group),
            chunk=rows_per_chunk(student.vocabulary, LARGE_BYTES // 4),
            student_bias=student.layer.bias,
            teacher_bias=None if teacher is None or teacher_hidden is None else teacher.layer.bias,
        )
    return total


def _row_loss(terms: Weighed) -> Any:
    """The weighted terms of one chunk's logits, summed over its rows."""

    def loss(student: Tensor, teacher: Tensor | None, targets: Tensor | None) -> Tensor:
        total = wide(student.new_zeros(()))
        for term, weight in terms:
            settings: Any = term.settings
            if isinstance(term, ResponseTerm):
                assert teacher is not None
                rows = Rows(student, teacher, targets)
                if settings.standardize:
                    rows = Rows(standardize(student), standardize(teacher), targets)
                total = total + weight * len(student) * RESPONSES[term.name](settings, rows)
            else:
                assert targets is not None
                smoothing = getattr(settings, "label_smoothing", 0.0)
                total = total + weight * functional.cross_entropy(
                    wide(student), targets, reduction="sum", label_smoothing=smoothing
                )
        return total

    return loss
