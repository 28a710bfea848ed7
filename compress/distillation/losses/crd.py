"""Contrastive distillation: student and teacher agree on an example and disagree on any other."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.distillation.losses.numerics import inner_products, unit


def contrast(log_scores: Tensor, examples: int) -> Tensor:
    """Noise-contrastive estimation: -log h(positive) - sum of log(1 - h(negative)), mean over rows, a scalar.

    Tian et al. 2020, "Contrastive Representation Distillation", eq. 18 as numbered in the authors' code: with K
    negatives drawn from M examples and a score s, h = s / (s + K / M). Scores come as logarithms, so that a low
    temperature does not overflow.

    Args:
        log_scores: (rows, 1 + K), the positive's first: similarity / temperature - log Z.
        examples: M.
    """
    noise = math.log((log_scores.shape[1] - 1) / examples)
    odds = log_scores - noise
    log_h, log_not_h = functional.logsigmoid(odds[:, 0]), functional.logsigmoid(-odds[:, 1:])
    return -(log_h + log_not_h.sum(1)).mean()


class OtherExamples:
    """Draws examples uniformly, with replacement, from all others or from those of other classes.

    Args:
        examples: how many there are.
        targets: (examples,) classes; None where each example is a class of its own.

    Raises:
        ValueError: for some example there is no other.
    """

    def __init__(self, examples: int, targets: Tensor | None = None) -> None:
        targets = torch.arange(examples) if targets is None else targets.cpu()
        if targets.shape != (examples,):
            raise ValueError(f"targets of shape {tuple(targets.shape)} for {examples} examples")
        _, classes, sizes = torch.unique(targets, return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            raise ValueError("no negatives: all examples are of one class")
        self._by_class = classes.argsort(stable=True)
        self._size = sizes[classes]
        self._start = (sizes.cumsum(0) - sizes)[classes]

    def draw(self, indices: Tensor, number: int, seed: int) -> Tensor:
        """(len(indices), number) examples, the same for the same seed; leaves the global generators as they are."""
        generator = torch.Generator().manual_seed(seed)
        size, start = self._size[indices, None], self._start[indices, None]
        uniform = torch.rand(len(indices), number, generator=generator, dtype=torch.float64)
        place = (uniform * (len(self._by_class) - size)).long()
        # Places count all but the own class, which lies from start to start + size in the order by class.
        found: Tensor = self._by_class[place + size * (place >= start)]
        return found


def only_rows(rows: Tensor) -> Tensor:
    """The rows as they are: there is one process."""
    return rows


class ContrastiveBank(nn.Module):
    """The contrastive loss with a memory of all examples' embeddings, from which the negatives come.

    Tian et al. 2020, "Contrastive Representation Distillation", and the authors' code: both networks' features go
    through a learned linear layer to vectors of length 1; each side is contrasted with the other's memory; the
    normalizing constants Z are estimated once, at the first training step, and kept. Memories and constants are
    buffers. The paper has 16384 negatives; 4096 is what small CPUs can do.

    Args:
        examples: in the training split; each needs 8 * `width` bytes.
        student_width: of its features, flattened.
        teacher_width: of its features, flattened.
        width: of the embeddings.
        negatives: per example and step, drawn with replacement.
        temperature: divides similarities, over 0.
        momentum: share of the old embedding that stays in memory, in [0, 1).
        targets: (examples,) classes of all examples: negatives are of other classes, as in the paper's
            classification. None: they are any other examples.
        seed: of the memories' first values.
        gather: this process's rows -> the rows of all processes that train together, in the same order in each, so that
            each has the memories that one process would have (`compress.training.synchronize.gather_rows`).

    Raises:
        ValueError: an example has no negative, or targets are of another number.
    """

    averaged = False
    """Its buffers are the same in all processes already; the mean of large memories would take long."""
    student_bank: Tensor
    teacher_bank: Tensor
    log_constants: Tensor
    estimated: Tensor

    def __init__(
        self,
        examples: int,
        student_width: int,
        teacher_width: int,
        width: int = 128,
        negatives: int = 4096,
        temperature: float = 0.07,
        momentum: float = 0.5,
        targets: Tensor | None = None,
        seed: int = 0,
        gather: Callable[[Tensor], Tensor] = only_rows,
    ) -> None:
        super().__init__()
        self.gather = gather
        self.examples, self.negatives, self.temperature, self.momentum = examples, negatives, temperature, momentum
        self.others = OtherExamples(examples, targets)
        self.student_embedding = nn.Linear(student_width, width)
        self.teacher_embedding = nn.Linear(teacher_width, width)
        generator = torch.Generator().manual_seed(seed)
        for name in ("student_bank", "teacher_bank"):
            # Uniform with variance 1 / width: of length 1 on average.
            values = (2 * torch.rand(examples, width, generator=generator) - 1) * math.sqrt(3 / width)
            self.register_buffer(name, values)
        self.register_buffer("log_constants", torch.zeros(2))
        self.register_buffer("estimated", torch.tensor(False))

    def forward(self, student_features: Tensor, teacher_features: Tensor, indices: Tensor, noise_seed: int) -> Tensor:
        """The sum of both sides' losses, a scalar; in training mode the memories then take the new embeddings.

        Args:
            student_features: (rows, ...).
            teacher_features: (rows, ...).
            indices: (rows,), distinct numbers of the examples in their split.
            noise_seed: of this step's negatives.
        """
        drawn = self.others.draw(indices.cpu(), self.negatives, noise_seed)
        compared = torch.cat([indices.cpu()[:, None], drawn], 1).to(self.student_bank.device)
        student = unit(self.student_embedding(student_features.flatten(1)))
        teacher = unit(self.teacher_embedding(teacher_features.flatten(1)))
        against_teacher = self._log_scores(student, self.teacher_bank, compared)
        against_student = self._log_scores(teacher, self.student_bank, compared)
        log_constants = self._log_constants(against_teacher, against_student)
        if self.training:
            self.update(*map(self.gather, (indices.to(student.device), student.detach(), teacher.detach())))
        sides = zip((against_teacher, against_student), log_constants, strict=True)
        losses = [contrast(scores - log_constant, self.examples) for scores, log_constant in sides]
        return losses[0] + losses[1]

    @torch.no_grad()
    def update(self, indices: Tensor, student: Tensor, teacher: Tensor) -> None:
        """Move the memories' rows `indices` towards embeddings (rows, width), and scale them to length 1 again."""
        indices = indices.to(self.student_bank.device)
        for bank, new in ((self.student_bank, student), (self.teacher_bank, teacher)):
            bank[indices] = unit(self.momentum * bank[indices] + (1 - self.momentum) * new.to(bank.dtype))

    def _log_scores(self, embeddings: Tensor, bank: Tensor, compared: Tensor) -> Tensor:
        """Similarity / temperature of each embedding with its rows of the memory: of the shape of `compared`."""
        # All similarities and a choice of them take a fifth of the time of gathering the negatives' embeddings. Of a
        # copy, since the backward pass reads the memory after its update.
        return inner_products(embeddings, bank.clone()).gather(1, compared) / self.temperature

    @torch.no_grad()
    def _log_constants(self, *scores: Tensor) -> Tensor:
        """Log Z of each side, (2,): the mean of exp(score) times the number of examples."""
        if self.estimated:
            return self.log_constants.clone()
        rows = [self.gather(side.logsumexp(1)) for side in scores]
        pairs = len(rows[0]) * scores[0].shape[1]
        found = torch.stack([side.logsumexp(0) for side in rows]) - math.log(pairs / self.examples)
        if self.training:
            self.log_constants.copy_(found)
            self.estimated.fill_(True)
        return found
