"""Whether a teacher's answers are kept on disk: decided from counted arithmetic and bytes, never from timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.distillation.teacher_settings import Cache
from compress.errors import UsageError

AUTO_VIEWS = 16
"""Views that `auto` keeps of augmented examples."""
WORTH = 0.2
"""Least share of all arithmetic that keeping must save, for `auto` to keep."""


@dataclass(frozen=True)
class Costs:
    """What training costs, counted: multiply-accumulates of one example, examples, epochs, bytes of one answer."""

    teacher_macs: int
    student_macs: int
    examples: int
    epochs: int
    answer_bytes: int
    augmented: bool


@dataclass(frozen=True)
class Decision:
    """How many views are kept (0: none), and why, in words."""

    views: int
    reason: str


def decide(choice: Literal["auto"] | Cache, costs: Costs) -> Decision:
    """What a choice means for such costs.

    A student's step counts three times its forward pass. `auto` keeps the one view of examples that are not augmented,
    or 16 views where training is at least twice as long, if that saves a fifth of all arithmetic and fits on disk.

    Raises:
        UsageError: views were asked for that do not fit into the bytes that are allowed.
    """
    settings = choice if isinstance(choice, Cache) else Cache()
    views = settings.views or (AUTO_VIEWS if costs.augmented else 1)
    if not costs.augmented:
        views = 1
    views = min(views, costs.epochs)
    step = costs.teacher_macs + 3 * costs.student_macs
    saved = costs.teacher_macs * (costs.epochs - views) / max(step * costs.epochs, 1)
    size = views * costs.examples * costs.answer_bytes
    words = f"{views} view{'s' if views > 1 else ''}, {size:,} bytes, saves {saved:.0%} of the arithmetic"
    if settings.views is not None and size > settings.max_bytes:
        raise UsageError(
            f"cache: answers to {views} view{'s' if views > 1 else ''} take {size:,} bytes, and only "
            f"{settings.max_bytes:,} are allowed: raise `max_bytes`, lower `views`, or write `cache: off`"
        )
    if settings.views is not None:
        return Decision(views, words)
    if size > settings.max_bytes:
        return Decision(0, f"off: {words}, but only {settings.max_bytes:,} bytes are allowed")
    if saved < WORTH or (costs.augmented and costs.epochs < 2 * AUTO_VIEWS):
        return Decision(0, f"off: {words}, too little to give up fresh answers")
    return Decision(views, words)
