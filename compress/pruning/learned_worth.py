"""What layers and blocks are worth among others that go, learned from choices that were judged as wholes.

What each is worth by itself says little of what it is worth once much else is gone. A linear predictor fitted to some
tens of judged choices says it better, and finds better ones: the way of Wen, Liu, Chen, Li, Bender, Kindermans, "Neural
Predictor for Neural Architecture Search", ECCV 2020 (arXiv:1912.00848), with a predictor small enough for so few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from torch import Tensor

from compress.pruning.cost_search import Look, Search
from compress.pruning.knapsack import Family
from compress.pruning.shape import Shape

Array = npt.NDArray[np.float64]
LIKELY, PULL = 0.3, 0.3
"""What each part of a network adds to the logarithm of the distance, and how much that weighs beside one choice."""
LEAST = 0.02
"""What a part is taken to add at least: that it adds nothing is never known."""


def learned_look(search: Search, look: Look, judged: Sequence[tuple[Shape, float]]) -> Look:
    """What was seen of the whole network, weighed so that it tells the logarithms of distances that were judged.

    Each block that is gone adds to the logarithm, and each tied groups outside of such blocks as much as they lose of
    their importance; least squares, no part less than 0.

    Args:
        search: what may go.
        look: what was seen while nothing was gone.
        judged: shapes that were chosen, and their distances, over 0.
    """
    families = search.families(look)
    rows = np.array([_gone(search, families, shape) for shape, _ in judged])
    logarithms = np.log([max(distance, 1e-12) for _, distance in judged])
    parts = rows.shape[1]
    known = np.hstack([rows, np.ones((len(rows), 1))])
    pulled = np.hstack([PULL * np.eye(parts), np.zeros((parts, 1))])
    wanted = np.concatenate([logarithms - logarithms.min(), np.full(parts, PULL * LIKELY)])
    worth: Array = np.maximum(nnls(np.vstack([known, pulled]), wanted)[0][:parts], LEAST)
    scores: dict[str, Tensor] = {}
    for family, added in zip(families, worth, strict=False):
        factor = float(added) / max(family.losses[-1], 1e-12)
        scores |= {name: look.scores[name] * factor for name in family.groups}
    return replace(look, scores=scores, harm=dict(zip(search.paths, worth[len(families) :].tolist(), strict=True)))


def _gone(search: Search, families: Sequence[Family], shape: Shape) -> list[float]:
    """What is gone: the share of each tied groups' importance, 0 inside of blocks that are gone; 1 for such a block."""
    alive, found = search.alive(shape.dropped), []
    for family in families:
        level = next(at for at, kept in enumerate(family.levels) if kept.items() <= shape.kept.items())
        there = not alive.isdisjoint(family.groups)
        found.append(family.losses[level] / max(family.losses[-1], 1e-12) if there else 0.0)
    return found + [float(path in shape.dropped) for path in search.paths]
