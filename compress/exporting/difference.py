"""How two tensors that should be equal differ, in quantization steps, and by which simple rule."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from compress.exporting.graph import Array

Step = Array | float | None
STEPS = 255
SLACK = 1.01
NEARLY_ALL = 0.95
SHAPES = "the shapes are"
ROOM = 2.0
"""Steps that a value must be away from 0 to say anything about a ratio."""


@dataclass(frozen=True)
class Difference:
    """Of a reference and a candidate: the worst element, and how many elements are off.

    `share` of the elements is more than one step off, `share_half` more than half a step. `step` is that of the worst
    element. `rule` says what is wrong with nearly all elements, if one simple thing is.
    """

    index: tuple[int, ...]
    reference: float
    candidate: float
    step: float
    share: float
    share_half: float
    rule: str = ""
    arrays: tuple[Array, Array, Array] | None = None

    @property
    def steps(self) -> float:
        """How far the worst element is off, in steps."""
        return abs(self.candidate - self.reference) / self.step

    def explained(self) -> Difference:
        """The same with its rule, without the arrays."""
        rule = self.rule if self.arrays is None else _rule(*self.arrays)
        return replace(self, rule=rule, arrays=None)

    def sentence(self, reference: str, candidate: str) -> str:
        """In words."""
        if self.rule.startswith(SHAPES):
            return self.rule
        text = (
            f"at {list(self.index)} {reference} has {self.reference:.6g} and {candidate} {self.candidate:.6g}, "
            f"{self.steps:.3g} steps of {self.step:.3g} off; {self.share:.1%} of the values are more than a step off"
        )
        return f"{text}: {self.rule}" if self.rule else text


def measure(reference: Array, candidate: Array, step: Step) -> Difference:
    """Compare tensors of one shape. Without `step`, it is 1 for integers, else a 255th of the reference's range.

    Tensors of unlike shapes differ in all elements.
    """
    if reference.shape != candidate.shape:
        rule = f"{SHAPES} {list(reference.shape)} and {list(candidate.shape)}"
        return Difference((), float(reference.size), float(candidate.size), 1.0, 1.0, 1.0, rule)
    if not reference.size:
        return Difference((), 0.0, 0.0, 1.0, 0.0, 0.0)
    whole = reference.dtype.kind in "iub" and candidate.dtype.kind in "iub"
    expected, found = reference.astype(np.float64), candidate.astype(np.float64)
    sizes = np.broadcast_to(np.asarray(_default(expected, whole) if step is None else step, np.float64), expected.shape)
    with np.errstate(invalid="ignore"):
        steps = np.abs(found - expected) / sizes
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    steps = np.where(same, 0.0, np.where(np.isfinite(steps), steps, np.inf))
    worst = np.unravel_index(int(steps.argmax()), steps.shape)
    return Difference(
        index=tuple(int(i) for i in worst),
        reference=float(expected[worst]),
        candidate=float(found[worst]),
        step=float(sizes[worst]),
        share=float(np.mean(steps > SLACK)),
        share_half=float(np.mean(steps > SLACK / 2)),
        arrays=(expected, found, sizes),
    )


def _default(expected: Array, whole: bool) -> float:
    if whole:
        return 1.0
    finite = expected[np.isfinite(expected)]
    extent = float(np.ptp(finite)) if finite.size else 0.0
    return max(extent, float(np.abs(finite).max(initial=0.0)), 1e-30) / STEPS


def _rule(expected: Array, found: Array, step: Array) -> str:
    """One simple thing that makes `found` of `expected`, up to a step, nearly everywhere."""
    if not np.isfinite(found).all():
        return f"{np.mean(~np.isfinite(found)):.1%} are not finite"
    if not np.isfinite(expected).all():
        return ""
    # Values at the ends of the range may have been cut off: they say nothing of what was done to them.
    inside = (found > found.min()) & (found < found.max())
    if not inside.any():
        inside = np.ones_like(inside)
    near = step * SLACK
    large = inside & (np.abs(expected) > ROOM * step)
    if large.any():
        ratio = float(np.median(found[large] / expected[large]))
        slack = near * max(1.0, abs(ratio))
        if abs(ratio - 1) > 0.01 and _share(np.abs(found - ratio * expected) <= slack, inside) >= NEARLY_ALL:
            return f"nearly all are {ratio:.3g} times what they should be"
    offset = float(np.median(((found - expected) / step)[inside]))
    if abs(offset) > 1 and _share(np.abs(found - expected - offset * step) <= near, inside) >= NEARLY_ALL:
        return f"nearly all are {offset:+.4g} steps off"
    return _rectified(expected, found, near) or _transposed(expected / step, found / step)


def _rectified(expected: Array, found: Array, near: Array) -> str:
    """A relu or clip that one of both lacks."""
    for more, less, text in ((found, expected, "is missing"), (expected, found, "should not be there")):
        low, high = less.min(), less.max()
        outside = (more < low - near) | (more > high + near)
        if outside.any() and _share(np.abs(np.clip(more, low, high) - less) <= near, outside) >= NEARLY_ALL:
            within = ~outside
            if not within.any() or _share(np.abs(more - less) <= near, within) >= NEARLY_ALL:
                return f"a limit to [{low:.4g}, {high:.4g}], as a relu or clip sets it, {text}"
    return ""


def _transposed(expected: Array, found: Array) -> str:
    """Both in steps, so that integers are compared where each channel has its own scale."""
    if np.mean(np.abs(found - expected) <= SLACK) >= NEARLY_ALL:
        return ""
    for one, other in itertools.combinations(range(expected.ndim), 2):
        swapped = found.swapaxes(one, other)
        if swapped.shape == expected.shape and np.mean(np.abs(swapped - expected) <= SLACK) >= NEARLY_ALL:
            return f"axes {one} and {other} are swapped"
    return ""


def _share(holds: Array, among: Array) -> float:
    return float(np.mean(holds[among]))
