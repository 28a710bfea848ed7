"""Which examples changed their class between two models: those that became wrong, those that became right.

Yan et al. 2021, "Positive-Congruent Training: Towards Regression-Free Model Updates", call the first negative flips,
and their share of all examples the negative flip rate (equation 1): two models of one accuracy may err on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.tasks.classes import OneClass
from compress.tasks.intervals import wilson
from compress.tasks.paired import mcnemar, newcombe_paired, paired_bootstrap
from compress.tasks.task import Task

Array = npt.NDArray[Any]
MOST_BYTES = 2**24
"""Answers (of dense predictions) that take more are not drawn anew: the two intervals must do, which is wider."""


@dataclass(frozen=True)
class Flips:
    """Examples by number, in order. `right`, `before` and `after` hold the classes of each that is in one of the lists.

    `stayed_wrong` changed from one wrong class to another. `p_value` is McNemar's, of as many becoming wrong as right.
    """

    examples: int
    became_wrong: tuple[int, ...]
    became_right: tuple[int, ...]
    stayed_wrong: tuple[int, ...]
    classes: dict[int, tuple[int, int, int]]
    p_value: float

    def numbered(self, numbers: Sequence[int]) -> Flips:
        """The same examples under other numbers: those of a whole of which these were a part."""

        def those(indices: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(int(numbers[index]) for index in indices)

        classes = {int(numbers[index]): found for index, found in self.classes.items()}
        return replace(
            self,
            became_wrong=those(self.became_wrong),
            became_right=those(self.became_right),
            stayed_wrong=those(self.stayed_wrong),
            classes=classes,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the negative flip rate and its 95 % interval (Wilson's)."""
        return {
            "examples": self.examples,
            "became_wrong": list(self.became_wrong),
            "became_right": list(self.became_right),
            "stayed_wrong": list(self.stayed_wrong),
            "negative_flip_rate": len(self.became_wrong) / max(self.examples, 1),
            "negative_flip_rate_ci95": list(wilson(len(self.became_wrong), self.examples)),
            "mcnemar_p": self.p_value,
            "classes": [[index, *found] for index, found in self.classes.items()],
        }


def flips(after: Array, before: Array, targets: Array) -> Flips:
    """Where the largest logit moved between `before` and `after` (both examples x classes); `targets` is what is right.

    Raises:
        ValueError: the two do not answer the same examples.
    """
    if len(after) != len(before) or len(after) != len(targets):
        raise ValueError(f"answers to {len(before)} and {len(after)} examples cannot be paired with {len(targets)}")
    ours, theirs = after.argmax(axis=1), before.argmax(axis=1)
    right_before, right_after = theirs == targets, ours == targets
    became_wrong = np.flatnonzero(right_before & ~right_after)
    became_right = np.flatnonzero(~right_before & right_after)
    stayed_wrong = np.flatnonzero(~right_before & ~right_after & (ours != theirs))
    moved = np.sort(np.concatenate([became_wrong, became_right, stayed_wrong]))
    return Flips(
        examples=len(targets),
        became_wrong=tuple(became_wrong.tolist()),
        became_right=tuple(became_right.tolist()),
        stayed_wrong=tuple(stayed_wrong.tolist()),
        classes={int(at): (int(targets[at]), int(theirs[at]), int(ours[at])) for at in moved},
        p_value=mcnemar(len(became_wrong), len(became_right)),
    )


def against(
    task: Task, after: Array, before: Array, targets: Array, numbers: Sequence[int] | None = None
) -> dict[str, Any]:
    """What is lost against a reference's answers to the same examples: its interval, and flips where there are classes.

    `<metric>_drop_ci95` is of the loss: positive where the reference is better, whatever the metric's direction. Flips
    are told by `numbers` of the examples where these are only some of the test data.
    """
    found: dict[str, Any] = {}
    if isinstance(task, OneClass):
        moved = flips(after, before, targets)
        found["flips"] = (moved if numbers is None else moved.numbered(numbers)).as_json()
        found["agreement_ci95"] = list(wilson(int((after.argmax(axis=1) == before.argmax(axis=1)).sum()), len(targets)))
        if task.metric == "accuracy":
            right_before, right_after = (answers.argmax(axis=1) == targets for answers in (before, after))
            lost, gained = len(moved.became_wrong), len(moved.became_right)
            table = int((right_before & right_after).sum()), lost, gained, int((~right_before & ~right_after).sum())
            found[f"{task.metric}_drop_ci95"] = list(newcombe_paired(*table))
            return found

    if after.nbytes > MOST_BYTES:
        return found

    def metric(answers: Array, right: Array) -> float:
        return float(task.metrics(answers, right)[task.metric])

    first, second = (before, after) if task.higher_is_better else (after, before)
    found[f"{task.metric}_drop_ci95"] = list(paired_bootstrap(metric, first, second, targets))
    return found
