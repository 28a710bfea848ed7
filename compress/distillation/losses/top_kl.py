"""Distillation from the likeliest tokens alone, all others being one."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.distillation.losses.probabilities import log_probabilities

_NEARLY_ALL = -1e-6
"""Log of the largest probability that is left to the student's first tokens: the rest is never quite impossible."""


def top_kl(
    student_logits: Tensor, indices: Tensor, log_probabilities_of: Tensor, log_rest: Tensor, temperature: float
) -> Tensor:
    """T^2 KL(teacher || student) over k tokens of each row and all others as one more, the mean over rows.

    By the data processing inequality at most `kl` of all tokens, and equal to it where the others are as likely among
    themselves for both; 0 at equality.

    Args:
        student_logits: (rows, vocabulary).
        indices: (rows, k), the teacher's likeliest tokens.
        log_probabilities_of: (rows, k), theirs in the teacher's softmax(logits / T).
        log_rest: (rows,), the logarithm of the probability of all others together.
        temperature: T, over 0; the teacher's numbers are of this one.
    """
    student = log_probabilities(student_logits, temperature)
    own = student.gather(1, indices)
    own_rest = torch.log(-torch.expm1(own.logsumexp(1).clamp_max(_NEARLY_ALL)))
    theirs, their_rest = log_probabilities_of.to(student.dtype), log_rest.to(student.dtype)
    first = (theirs.exp() * (theirs - own)).sum(1)
    # Where the teacher leaves nothing to the rest, it adds nothing: 0 log 0.
    rest = torch.where(their_rest.isfinite(), their_rest.exp() * (their_rest.clamp_min(-60) - own_rest), 0)
    return temperature**2 * (first + rest).mean()


def top_of(logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """What `top_kl` needs of a teacher: the k likeliest tokens, their log probabilities, that of all others.

    Args:
        logits: (..., vocabulary).
        k: at most as many as the vocabulary has.
        temperature: over 0.
    """
    logarithms = torch.log_softmax(logits.float() / temperature, dim=-1)
    found, indices = logarithms.topk(min(k, logits.shape[-1]), dim=-1)
    # 1 - sum in float64: what is left may be small beside rounding in float32. Apple's GPUs have no float64: there the
    # CPU does this little work.
    precise = found.cpu() if found.device.type == "mps" else found
    rest = (1 - precise.double().exp().sum(-1)).clamp_min(0).log().clamp_min(-60)
    return indices, found, rest.float().to(found.device)
