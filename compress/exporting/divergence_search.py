"""Which operator of two networks that should agree is the first to differ: by bisection, on numbers alone.

Both are sets of named tensors with a function that computes some of them. Nothing here knows torch or ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compress.exporting.difference import Difference, Step, measure
from compress.exporting.graph import Array

Values = dict[str, Array]
Reference = Callable[[Sequence[str]], Values]
"""The reference's values of those points (by the points' tensors), floats."""
Candidate = Callable[[Sequence[str], Mapping[str, Array]], Values]
"""The candidate's, computed from its inputs, or from the values given for points on the way."""

RESTARTS = 4
SMALLEST = 1e-30
AT_ONCE = 16
"""Points whose values are held at once when each is looked at by itself."""


@dataclass(frozen=True)
class Point:
    """A tensor that both networks have.

    `inputs` are the points that it is computed from with no other point between, `operators` what does that in the
    candidate, the writer of the tensor last, `roundings` how often they round to integers. `step` is the quantization
    step, None for a 255th of the reference's range.
    """

    tensor: str
    operator: str
    kind: str
    inputs: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    step: Step = None
    roundings: int = 1


@dataclass(frozen=True)
class Tolerance:
    """Which share of a tensor may be more than a step off: in a whole run, and by one operator from equal inputs.

    From equal inputs only ties of a rounding differ, by one step, and only at `ties` of the elements. Between tensors
    with more than one rounding on the way that adds up to steps, at fewer than `chain` of the elements.
    With `relative` a step is that share of the root mean square of the reference's values, whatever the points say.
    """

    whole: float = 0.01
    alone: float = 1e-4
    ties: float = 0.1
    chain: float = 0.1
    relative: float | None = None

    def exceeded(self, point: Point, difference: Difference) -> bool:
        """Whether a point's own operators differ, fed equal inputs."""
        if point.roundings > 1:
            return difference.share > self.chain
        return difference.share > self.alone or difference.share_half > self.ties

    def step(self, point: Point, expected: Array) -> Step:
        """The step to compare a point's values in."""
        if self.relative is None:
            return point.step
        return max(self.relative * float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))), SMALLEST)


EXACT = Tolerance()
"""For networks of the same numbers."""
FLOAT16 = Tolerance(whole=0.03, alone=1e-3, ties=0.3)
"""For a network whose float operators round to 11 bits: an eighth of a step at the end of a range of 8 bits."""

FLOAT = Tolerance(relative=0.005)
"""For networks that round nothing to integers: the same operators in float32, by other kernels."""
FLOAT16_ONLY = Tolerance(alone=1e-3, relative=0.05)
"""For such a network in float16."""


@dataclass(frozen=True)
class Divergence:
    """The operator of the candidate that differs from the reference, given the reference's own inputs.

    `operators` are all that lie between the tensors that were compared; `operator` is the one to blame, as far as it
    can be told. `difference` holds both values of the worst element.
    """

    operator: str
    kind: str
    tensor: str
    operators: tuple[str, ...]
    difference: Difference
    hint: str = ""
    probes: int = field(default=0, compare=False)

    def sentence(self, reference: str = "the reference", candidate: str = "the file") -> str:
        """In words."""
        among = [name for name in self.operators if name != self.operator]
        between = (
            f", or one of those before it: {', '.join(among[:4])}{' ...' if len(among) > 4 else ''}" if among else ""
        )
        text = f"The first operator to differ is {self.operator!r} ({self.kind}{between}): tensor {self.tensor!r}, "
        text += self.difference.sentence(reference, candidate)
        return f"{text}; {self.hint}" if self.hint else text


def first_divergence(
    points: Sequence[Point],
    reference: Reference,
    candidate: Candidate,
    *,
    tolerance: Tolerance = EXACT,
) -> Divergence | None:
    """The first point, in the order given, whose operators give other values for the reference's own inputs.

    A whole run bisects: each probe computes one tensor in both networks, and halves what may be the first to differ;
    a tensor that agrees clears all that it is computed from. What is found is confirmed by its operators alone, fed the
    reference's values, so that rounding that adds up is not blamed on an operator that passes it on. If they do nothing
    wrong, the search goes on with the reference's values put in there, at most `RESTARTS` times; in the end each
    operator that is left is looked at by itself, `AT_ONCE` together. None if none does anything wrong.

    Memory: the tensors of one probe and of the points where values are put in.
    """
    return _Search(points, reference, candidate, tolerance).run()


class _Search:
    def __init__(
        self, points: Sequence[Point], reference: Reference, candidate: Candidate, tolerance: Tolerance
    ) -> None:
        self.points = {point.tensor: point for point in points}
        self.place = {point.tensor: i for i, point in enumerate(points)}
        self.reference, self.candidate, self.tolerance = reference, candidate, tolerance
        self.probes = 0
        self.above: dict[str, frozenset[str]] = {}
        for point in points:
            direct = frozenset(point.inputs)
            self.above[point.tensor] = direct.union(*(self.above[name] for name in direct))

    def run(self) -> Divergence | None:
        cleared: set[str] = set()
        checked: set[str] = set()
        for _ in range(RESTARTS):
            suspect = self._bisect(cleared)
            if suspect is None:
                break
            found = self._alone([suspect])
            if found is not None:
                return found
            checked.add(suspect)
            cleared |= {suspect, *self.above[suspect]}
        left = [name for name in self.points if name not in checked]
        for start in range(0, len(left), AT_ONCE):
            found = self._alone(left[start : start + AT_ONCE])
            if found is not None:
                return found
        return None

    def _bisect(self, cleared: set[str]) -> str | None:
        """A point that differs though nothing that it is computed from does; None if no last point differs."""
        read = {name for point in self.points.values() for name in point.inputs}
        ends = [name for name in self.points if name not in read and name not in cleared]
        worst = next((name for name in ends if self._differs(name, cleared)), None)
        if worst is None:
            return None
        suspects = set(self.above[worst]) - cleared
        while suspects:
            probe = self._middle(suspects)
            if self._differs(probe, cleared):
                worst = probe
                suspects &= self.above[probe]
            else:
                suspects -= {probe, *self.above[probe]}
        return worst

    def _middle(self, suspects: set[str]) -> str:
        """The suspect that, whichever way it turns out, leaves the fewest."""

        def left(name: str) -> tuple[int, int]:
            above = len(self.above[name] & suspects)
            return max(above, len(suspects) - above - 1), self.place[name]

        return min(suspects, key=left)

    def _differs(self, name: str, cleared: set[str]) -> bool:
        self.probes += 1
        given = self._border(name, cleared)
        expected = self.reference([name, *given])
        found = self.candidate([name], {key: expected[key] for key in given})
        difference = self._measure(self.points[name], expected[name], found[name])
        return difference.share > self.tolerance.whole

    def _measure(self, point: Point, expected: Array, found: Array) -> Difference:
        return measure(expected, found, self.tolerance.step(point, expected))

    def _border(self, name: str, cleared: set[str]) -> list[str]:
        """The cleared points that `name` is computed from with no other cleared one between."""
        found, pending, seen = set(), [name], set()
        while pending:
            for source in self.points[pending.pop()].inputs:
                if source in cleared:
                    found.add(source)
                elif source not in seen:
                    seen.add(source)
                    pending.append(source)
        return sorted(found, key=self.place.__getitem__)

    def _alone(self, names: Sequence[str]) -> Divergence | None:
        """The first of these points whose operators, fed the reference's values, do not give the reference's value."""
        self.probes += 1
        given = _unique(source for name in names for source in self.points[name].inputs)
        expected = self.reference(_unique([*names, *given]))
        found = self.candidate(names, {key: expected[key] for key in given})
        for name in names:
            point = self.points[name]
            difference = self._measure(point, expected[name], found[name])
            if self.tolerance.exceeded(point, difference):
                return Divergence(
                    point.operator, point.kind, name, point.operators, difference.explained(), probes=self.probes
                )
        return None


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
