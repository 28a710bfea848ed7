"""Several choices for one cost, of which that is taken after which the network answers most like before.

What units and blocks are worth, each by itself, adds up badly once many go. So what was seen of them is weighed
differently, in several ways at random, each gives a choice of its own, and these are judged as wholes, with batch norms
that have been estimated anew: Li, Wu, Su, Wang, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network
Pruning", ECCV 2020 (arXiv:2007.02491), which ranks by accuracy. Here by the distance of outputs, which needs no task
and fewer examples, and the best are judged again after a few steps of training. The loss would not do: right after a
cut it is that of a few examples of which the network is wrongly certain. Of twelve choices of one time for a ResNet-20,
which were all trained for three epochs, the final accuracy went with that distance (rank correlation -0.93 after thirty
steps; before any, of eleven of them, -0.80 to -0.85), and not with the loss (0.15).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from compress.pruning.cost_search import CostModel, Look, Search
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.judge import Judge
from compress.pruning.shape import Shape
from compress.stage import Progress
from compress.training.randomness import derived_seed

SPREAD = 1.0
"""How differently what was seen is weighed: the standard deviation of the logarithm of the factors; later the half."""
TRAINED = 6
"""How many of the best are judged again after some training."""


def best_look(search: Search, model: CostModel, wanted: float, given: Given, count: int, progress: Progress) -> Look:
    """What to choose by: what was seen on the way to a cost, or while nothing was gone and weighed in other ways.

    Args:
        search: what may go.
        model: what shapes cost.
        wanted: the cost.
        given: examples, and the seed of the weights.
        count: how many choices are judged; of 1 none is.
        progress: says how far it is.
    """
    first = search.look(model, wanted, given)
    if count < 2 or not given.batches:
        return first
    judge, whole = Judge(search, given), search.look_at_whole(given)
    random = np.random.default_rng(derived_seed(given.seed, "candidates"))
    judged: dict[Hashable, _Judged] = {}
    with progress.task("judging choices", count) as advance:
        for number in range(count):
            look = first
            if number > count // 2:  # the second half starts from the best of the first
                best = min(judged.values(), key=_distance)
                look = _otherwise(search, best.look, SPREAD / 2, random)
            elif number:
                look = _otherwise(search, whole, SPREAD, random)
            removed, shape = search.choose(model, wanted, look)
            name = (frozenset(shape.kept.items()), shape.dropped)
            if name not in judged:
                judged[name] = _Judged(look, removed, shape, judge.distance(removed, shape.dropped))
            advance(1)
    best_few, trained = sorted(judged.values(), key=_distance)[:TRAINED], []
    with progress.task("training the best choices for a moment", len(best_few)) as advance:
        for one in best_few:
            distance = judge.distance_after_training(one.removed, one.shape.dropped)
            trained.append(replace(one, distance=distance))
            advance(1)
    return min(trained, key=_distance).look


@dataclass(frozen=True)
class _Judged:
    """What was chosen by a look, and how far the answers then are from before."""

    look: Look
    removed: Chosen
    shape: Shape
    distance: float


def _distance(judged: _Judged) -> float:
    return judged.distance


def _otherwise(search: Search, look: Look, spread: float, random: np.random.Generator) -> Look:
    """What was seen, with other weights: one for all groups that are tied together, and one for each block."""
    scores: dict[str, Tensor] = {}
    for part in search.together:
        factor = float(np.exp(random.normal(0, spread)))
        scores |= {group.name: look.scores[group.name] * factor for group in part}
    harm = {path: value * float(np.exp(random.normal(0, spread))) for path, value in look.harm.items()}
    return replace(look, scores=scores, harm=harm)
