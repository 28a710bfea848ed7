"""Which epoch's weights are best, judged on validation data alone."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """An epoch's validation result: the primary metric, and the task's mean loss."""

    metric: float
    loss: float


def is_better(candidate: Score, best: Score | None, *, higher_is_better: bool) -> bool:
    """Whether a later epoch's result beats the best so far: by the metric, then by the loss, then not at all.

    Accuracy on a few hundred examples moves in coarse steps, and epochs often tie; among these the loss still tells a
    network that is sure of its right answers from one that is lucky. Equal in both, the earlier epoch stays.
    """
    if best is None or math.isnan(best.metric):
        return True
    if math.isnan(candidate.metric):
        return False
    if candidate.metric != best.metric:
        return (candidate.metric > best.metric) == higher_is_better
    return candidate.loss < best.loss
