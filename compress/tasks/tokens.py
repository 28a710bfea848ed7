"""Answers for each token: what is kept of them, and what is said of what was kept.

The logits of a whole split, examples x tokens x vocabulary, would fill any memory. Of each token four numbers are kept:
the token with the largest logit, the negative log-likelihood of the right one in nats, whether it counts (1 or 0), and
whether the largest was right (1 or 0). That is an array (examples, tokens, 4) of fp32, zeros where nothing counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compress.data.collate import IGNORED
from compress.errors import UsageError
from compress.tasks.intervals import bootstrap

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
TOKEN, NLL, COUNTED, RIGHT = range(4)
"""Where the four numbers stand."""


def condensed(outputs: Tensor | Array, targets: Tensor | Array) -> Array:
    """Logits (N, T, V) and right tokens (N, T), `IGNORED` where none counts -> (N, T, 4).

    Raises:
        UsageError: there is not one row of logits for each token.
    """
    import torch
    from torch.nn import functional

    logits = torch.as_tensor(outputs).float()
    right = torch.as_tensor(targets).to(logits.device)
    require_tokens(tuple(logits.shape), tuple(right.shape))
    chosen, counted = logits.argmax(-1), right.ne(IGNORED)
    flat = functional.cross_entropy(logits.flatten(0, 1), right.flatten(), ignore_index=IGNORED, reduction="none")
    parts = (chosen * counted, flat.view_as(right), counted, chosen.eq(right) & counted)
    return np.asarray(torch.stack([part.float() for part in parts], -1).cpu().numpy())


def joined(parts: Sequence[Array]) -> Array:
    """Arrays of several batches as one; where examples have tokens, with zeros up to the longest."""
    if len({part.shape[1:] for part in parts}) == 1 or parts[0].ndim < 3:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    result = np.zeros((sum(map(len, parts)), longest, *parts[0].shape[2:]), dtype=parts[0].dtype)
    start = 0
    for part in parts:
        result[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return result


def mean_nll(answers: Array) -> float:
    """Mean negative log-likelihood of the tokens that count, in nats; 0 where none does."""
    counted = answers[..., COUNTED].sum(dtype=np.float64)
    return float((answers[..., NLL] * answers[..., COUNTED]).sum(dtype=np.float64) / max(counted, 1.0))


def token_metrics(answers: Array) -> dict[str, float]:
    """`perplexity`, exp of the mean negative log-likelihood, and `token_accuracy`, the share of tokens foretold.

    Raises:
        UsageError: no token counts.
    """
    counted = int(answers[..., COUNTED].sum(dtype=np.float64))
    if not counted:
        raise UsageError("there is no token to be judged by: every example is too short")
    nll = float((answers[..., NLL] * answers[..., COUNTED]).sum(dtype=np.float64))
    right = float(answers[..., RIGHT].sum(dtype=np.float64))
    return {"perplexity": perplexity(nll, counted), "token_accuracy": right / counted}


def perplexity(nll_sum: float, tokens: int) -> float:
    """How many words are equally likely at each place: e to the power of the mean negative log-likelihood of a token.

    The vocabulary's size for a model that knows nothing, 1 for one that knows all.

    Args:
        nll_sum: negative log-likelihoods of all tokens, summed, in nats.
        tokens: how many those are.

    Raises:
        ValueError: there are no tokens.
    """
    if tokens < 1:
        raise ValueError(f"needs at least one token, got {tokens}")
    try:
        return exp(nll_sum / tokens)
    except OverflowError:  # Over 709 nats a token: more than a float holds.
        return float("inf")


def perplexity_interval(answers: Array) -> tuple[float, float]:
    """A 95 % bootstrap interval of the perplexity, over examples."""
    counted = answers[..., COUNTED].sum(axis=1, dtype=np.float64)
    nll = (answers[..., NLL] * answers[..., COUNTED]).sum(axis=1, dtype=np.float64)

    def statistic(indices: npt.NDArray[np.int64]) -> float:
        return perplexity(float(nll[indices].sum()), max(int(counted[indices].sum()), 1))

    return bootstrap(statistic, len(answers))


def same_tokens(answers: Array, reference: Array) -> float:
    """Share of counted tokens for which both models have the same token as the largest; 1 where none counts."""
    length = min(answers.shape[1], reference.shape[1])
    one, other = answers[:, :length], reference[:, :length]
    counted = (one[..., COUNTED] > 0) & (other[..., COUNTED] > 0)
    return float(np.mean((one[..., TOKEN] == other[..., TOKEN])[counted])) if counted.any() else 1.0


def require_tokens(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    """UsageError unless outputs are (N, T, V) for targets (N, T)."""
    if len(outputs) != 3 or outputs[:2] != targets:
        raise UsageError(f"the task needs logits for each token, {targets} x vocabulary; the network gives {outputs}")
