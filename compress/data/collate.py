"""Token ids of several examples -> arrays of a batch, and targets for modelling language. Pure functions of NumPy.

All shifting of targets is done here, once: `logits[n, t]` is always compared with `targets[n, t]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.ragged import Ragged
from compress.data.random_bits import key_of, random_bits, random_integers

Integers = npt.NDArray[np.int64]

IGNORED = -100
"""The target of a position that no loss and no metric counts."""

FIXED = (0, -1)
"""The (seed, epoch) of masks outside training, which are the same in every evaluation."""

_MOST_TOKENS = 1 << 24
_CHOICE, _KIND, _RANDOM = range(3)


def pad(rows: Ragged, pad_id: int) -> tuple[Integers, Integers]:
    """Rows of one length, filled up on the right.

    Returns:
        Token ids, N x T, and the attention mask, N x T: 1 at tokens, 0 at padding. T is the longest row's length, at
        least 1.
    """
    ids, there = rows.padded(pad_id)
    return ids, there.astype(np.int64)


def causal(
    rows: Ragged, pad_id: int, prompts: npt.NDArray[np.integer[Any]] | None = None
) -> tuple[Integers, Integers, Integers]:
    """Each position learns the token that follows it.

    Args:
        rows: the token ids of each example, prompt first.
        pad_id: fills the rows up.
        prompts: how many tokens of each example are prompt, N; these are read, not learnt. None: no prompts.

    Returns:
        Token ids, attention mask and targets, each N x T. Targets are `IGNORED` at an example's last token, at padding,
        and where the token that follows belongs to the prompt.
    """
    ids, there = rows.padded(pad_id)
    learnt = there.copy()
    if prompts is not None:
        learnt &= np.arange(ids.shape[1]) >= np.asarray(prompts)[:, None]
    targets = np.full_like(ids, IGNORED)
    targets[:, :-1] = np.where(learnt, ids, IGNORED)[:, 1:]
    return ids, there.astype(np.int64), targets


def masked(
    rows: Ragged,
    *,
    share: float,
    pad_id: int,
    mask_id: int,
    special: npt.NDArray[np.bool_],
    examples: npt.NDArray[np.integer[Any]],
    augment: tuple[int, int] | None = None,
) -> tuple[Integers, Integers, Integers]:
    """Some tokens are hidden, and learnt from those around them (Devlin et al. 2019, section 3.1, "Masked LM").

    Of each example's tokens that are not special, max(1, round(share x their number)) are chosen; 80 % of the chosen
    become the mask, 10 % any token of the vocabulary, 10 % stay. A pure function of (seed, epoch, example): the same
    whatever else is in the batch.

    Args:
        rows: the token ids of each example.
        share: how many of the tokens are chosen, in (0, 1].
        pad_id: fills the rows up.
        mask_id: stands for a hidden token.
        special: for each id of the vocabulary whether it is never hidden.
        examples: the number of each example in its split, N.
        augment: (seed, epoch); None outside training, where masks depend on the example alone.

    Returns:
        Token ids with masks, attention mask and targets, each N x T; targets are `IGNORED` where no token was chosen.
    """
    ids, there = rows.padded(pad_id)
    seed, epoch = FIXED if augment is None else augment
    place = np.asarray(examples, dtype=np.int64)[:, None] * _MOST_TOKENS + np.arange(ids.shape[1])
    chosen = _some(there & ~special[ids], share, random_bits(key_of(seed, epoch, _CHOICE), place))
    kind = random_integers(key_of(seed, epoch, _KIND), place, 10)
    anything = random_integers(key_of(seed, epoch, _RANDOM), place, len(special))
    hidden = np.select([chosen & (kind < 8), chosen & (kind == 8)], [np.full_like(ids, mask_id), anything], ids)
    return hidden, there.astype(np.int64), np.where(chosen, ids, IGNORED)


def sequence_to_sequence(
    rows: Ragged, answers: Ragged, pad_id: int, start_id: int
) -> tuple[Integers, Integers, Integers, Integers]:
    """Each position of a decoder learns the token that follows: it reads the answers one place later.

    Args:
        rows: the token ids that the encoder reads.
        answers: the token ids that the decoder must say, with the token that ends them.
        pad_id: fills rows up.
        start_id: what the decoder reads first.

    Returns:
        Token ids and attention mask, each N x T; the decoder's token ids, N x T_out: `start_id`, then the answer but
        its last token; targets, N x T_out: the answer, `IGNORED` at padding.
    """
    ids, mask = pad(rows, pad_id)
    said, there = answers.padded(pad_id)
    read = np.full_like(said, start_id)
    read[:, 1:] = said[:, :-1]
    return ids, mask, np.where(there, read, pad_id), np.where(there, said, IGNORED)


def _some(allowed: npt.NDArray[np.bool_], share: float, bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """The share of each row's allowed places whose bits are smallest; at least one where there is any."""
    available = allowed.sum(axis=1)
    wanted = np.minimum(available, np.maximum(1, np.round(share * available)))
    order = np.where(allowed, bits >> np.uint64(1), np.iinfo(np.uint64).max)  # halved, so that all come before the last
    rank = np.argsort(np.argsort(order, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray(rank < wanted[:, None])
