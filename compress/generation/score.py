"""What was written, held against the data's own target texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from compress.data.dataset import Data
from compress.data.splits import Answered
from compress.generation.responses import Response
from compress.tasks.text_metrics import bleu, exact_match, final_answer_match, rouge


def scores(data: Data, responses: Sequence[Response], split: str) -> dict[str, float]:
    """How near the answers to a split's prompts come to its target texts, over all texts.

    `exact_match`, `final_answer_match`, `rouge1`, `rouge2` and `rougeL` from 0 to 1, `bleu` from 0 to 100; each is
    that of `compress.tasks.text_metrics`. Of several answers to one prompt each counts. BLEU is of runs of four words,
    and 0 where no text has as many.

    Args:
        data: whose targets are texts.
        responses: at least one.
        split: `train`, `validation` or `test`: where the prompts come from.

    Raises:
        UsageError: the data have no target texts, or a library that a number needs is not installed.
    """
    answered = cast(Answered, getattr(data, split))
    wanted = answered.target_texts(np.array([response.id for response in responses], dtype=np.int64))
    found = [response.response for response in responses]
    return {
        "exact_match": exact_match(found, wanted),
        "final_answer_match": final_answer_match(found, wanted),
        "bleu": bleu(found, wanted),
        **rouge(found, wanted),
    }


def told(score: dict[str, float], texts: int, split: str) -> str:
    """The scores as one line for the user."""
    return (
        f"of {texts:,} answers to the {split} split {score['exact_match']:.1%} are the target itself, "
        f"{score['final_answer_match']:.1%} come to its final answer; BLEU {score['bleu']:.1f}, "
        f"ROUGE-L {score['rougeL']:.3f}"
    )
