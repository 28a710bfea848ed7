"""What layers and blocks are worth among others that go, learned from choices that were judged as wholes.

What each is worth by itself says little of what it is worth once much else is gone. A linear predictor fitted to some
tens of judged choices says it better, and finds better ones: the way of Wen, Liu, Chen, Li, Bender, Kindermans, "Neural
Predictor for Neural Architecture Search", ECCV 2020 (arXiv:1912.00848), with a predictor small enough for so few.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from torch import Tensor

from compress.pruning.cost_search import Look, Search
from compress.pruning.shape import Shape

Array = npt.NDArray[np.float64]
LIKELY, PULL = 0.3, 0.3
"""What each part of a network adds to the logarithm of the distance, and how much that weighs beside one choice."""
LEAST = 0.02
"""What a part is taken to add at least: that it adds nothing is never known."""


class Learner:
    """Learns how what was seen of a whole network is to be weighed to tell the distances of choices that were judged.

    Each block that is gone adds to the logarithm of the distance, and each tied groups outside of such blocks as much
    as they lose of their importance; least squares, no part less than 0.

    Args:
        search: what may go.
        seen: what was seen while nothing was gone.
    """

    def __init__(self, search: Search, seen: Look) -> None:
        self.search, self.seen, self.families = search, seen, search.families(seen)
        self.rows: list[list[float]] = []
        self.logarithms: list[float] = []

    def add(self, shape: Shape, distance: float) -> None:
        """A choice that was judged; nothing is learned where the distance is infinite."""
        if math.isfinite(distance):
            self.rows.append(self._gone(shape))
            self.logarithms.append(math.log(max(distance, 1e-12)))

    def look(self) -> Look:
        """What was seen, weighed by what was learned so far."""
        parts = len(self.families) + len(self.search.paths)
        known = np.hstack([np.reshape(self.rows, (-1, parts)), np.ones((len(self.rows), 1))])
        pulled = np.hstack([PULL * np.eye(parts), np.zeros((parts, 1))])
        above_best = np.array(self.logarithms) - min(self.logarithms, default=0.0)
        wanted = np.concatenate([above_best, np.full(parts, PULL * LIKELY)])
        worth: Array = np.maximum(nnls(np.vstack([known, pulled]), wanted)[0][:parts], LEAST)
        of_groups, of_blocks = worth[: len(self.families)], worth[len(self.families) :]
        scores: dict[str, Tensor] = {}
        for family, added in zip(self.families, of_groups, strict=True):
            factor = float(added) / max(family.losses[-1], 1e-12)
            scores |= {name: self.seen.scores[name] * factor for name in family.groups}
        return replace(self.seen, scores=scores, harm=dict(zip(self.search.paths, of_blocks.tolist(), strict=True)))

    def _gone(self, shape: Shape) -> list[float]:
        """The share of each tied groups' importance that is gone, 0 inside of dropped blocks; 1 for such a block."""
        alive, found = self.search.alive(shape.dropped), []
        for family in self.families:
            level = next(at for at, kept in enumerate(family.levels) if kept.items() <= shape.kept.items())
            there = not alive.isdisjoint(family.groups)
            found.append(family.losses[level] / max(family.losses[-1], 1e-12) if there else 0.0)
        return found + [float(path in shape.dropped) for path in self.search.paths]
