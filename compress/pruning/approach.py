"""To a time of which the model is not quite right: choices are measured, the model is mended, and others are made.

The model adds up layers, but a network's time may jump: once its tensors fit into a cache, or its channels into a
register, all of it runs faster than its layers by themselves tell. Then choices lie on one side of the jump or on the
other, none where it is wanted; so each side is searched by itself, with the layers that make the difference held there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compress.pruning.candidates import Contest
from compress.pruning.cost_search import Search, Span
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.latency.model import Anchor, TimeModel
from compress.pruning.noted import Noted
from compress.pruning.shape import Shape
from compress.stage import Progress

TRIES = 4
"""How many choices are measured among all."""
SIDE_TRIES = 3
"""How many are measured on either side of a jump."""
NEAR = 0.04
"""How far from what was asked a measured file may be, relative, before another is tried."""

Measure = Callable[[Chosen, Shape], float]
"""The milliseconds of a file without units (by group), which has a shape."""


@dataclass(frozen=True)
class Attempt:
    """A choice: units removed by group, the shape that is left, what it was expected to take, and what it took."""

    removed: dict[str, list[int]]
    shape: Shape
    predicted: float
    measured: float


class Approach:
    """The way to a time.

    Args:
        search: what may go.
        model: tells times before they are measured.
        wanted: milliseconds.
        given: what importance is judged by.
        measure: the milliseconds of a choice; None to believe the model, and to judge no candidates.
        progress: says how far it is.
        noted: distances of choices that were judged before.
    """

    def __init__(
        self,
        search: Search,
        model: TimeModel,
        wanted: float,
        given: Given,
        measure: Measure | None,
        progress: Progress,
        noted: Noted,
    ) -> None:
        self.search, self.model, self.wanted, self.measure = search, model, wanted, measure
        self.contest = Contest(search, given, search.settings.candidates if measure else 1, progress, noted)
        self.attempts: list[Attempt] = []

    def run(self) -> Attempt:
        """The choice that came nearest; all stand in `attempts`."""
        self._try({}, TRIES)
        for span in self._sides():
            if not self._is_near(self.nearest):
                self._try(span, SIDE_TRIES)
        return self.nearest

    @property
    def nearest(self) -> Attempt:
        """The attempt that came nearest so far."""
        return min(self.attempts, key=self._miss)

    def _try(self, span: Span, tries: int) -> None:
        """Choose and measure, within some widths, until it is near."""
        search, model, aim = self.search.within(span), self.model, self.wanted
        known = [attempt for attempt in self.attempts if search.allows(attempt.shape)]
        for attempt in known:
            model = model.with_anchor(Anchor(attempt.shape, attempt.measured))
        if known:
            aim = self._aim(model, min(known, key=self._miss))
        look = self.contest.best_look(search, model, aim)
        for _ in range(tries):
            removed, shape = search.choose(model, aim, look)
            predicted = model.predict(shape) * self.wanted / aim
            measured = self.measure(removed, shape) if self.measure else predicted
            attempt = Attempt(removed, shape, predicted, measured)
            self.attempts.append(attempt)
            if self._is_near(attempt):
                return
            model = model.with_anchor(Anchor(shape, measured))
            aim = self._aim(model, attempt)

    def _aim(self, model: TimeModel, attempt: Attempt) -> float:
        """What to ask of the model, if it stays as wrong as it is there."""
        return self.wanted * model.predict(attempt.shape) / attempt.measured

    def _sides(self) -> list[Span]:
        """The widths on either side of a jump between the nearest attempts above and below, the nearer one first."""
        slow = [attempt for attempt in self.attempts if attempt.measured > self.wanted]
        fast = [attempt for attempt in self.attempts if attempt.measured <= self.wanted]
        if not slow or not fast:
            return []
        above, below = (min(part, key=self._miss) for part in (slow, fast))
        names = self.search.most_different(self.model, above.shape, below.shape)
        spans: list[Span] = []
        for attempt in sorted((above, below), key=self._miss):
            other = below if attempt is above else above
            spans.append({name: _beyond(attempt.shape.kept[name], other.shape.kept[name]) for name in names})
        return spans if names else []

    def _miss(self, attempt: Attempt) -> float:
        return abs(attempt.measured - self.wanted)

    def _is_near(self, attempt: Attempt) -> bool:
        return self._miss(attempt) <= NEAR * self.wanted


def _beyond(own: int, other: int) -> tuple[int, int | None]:
    """Least and most units on the side of a width that another is not on."""
    return (own, None) if own > other else (0, own)
