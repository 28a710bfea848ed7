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

import math
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
from torch import Tensor

from compress.pruning.cost_search import CostModel, Look, Search
from compress.pruning.importance.measures import Given
from compress.pruning.judge import Judge
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
    found: dict[Hashable, tuple[float, Look]] = {}
    with progress.task("judging choices", count) as advance:
        for number in range(count):
            look, best = first, min(found.values(), key=_distance, default=(math.inf, first))[1]
            if number:
                near = number > count // 2  # the second half starts from the best of the first
                look = _otherwise(search, best if near else whole, SPREAD / 2 if near else SPREAD, random)
            removed, shape = search.choose(model, wanted, look)
            name = (frozenset(shape.kept.items()), shape.dropped)
            if name not in found:
                found[name] = judge.distance(removed, shape.dropped), look
            advance(1)
    best_few = sorted(found.values(), key=_distance)[:TRAINED]
    trained: list[tuple[float, Look]] = []
    with progress.task("training the best choices for a moment", len(best_few)) as advance:
        for _, look in best_few:
            removed, shape = search.choose(model, wanted, look)
            trained.append((judge.distance_after_training(removed, shape.dropped), look))
            advance(1)
    return min(trained, key=_distance)[1]


def _distance(judged: tuple[float, Look]) -> float:
    return judged[0]


def _otherwise(search: Search, look: Look, spread: float, random: np.random.Generator) -> Look:
    """What was seen, with other weights: one for all groups that are tied together, and one for each block."""
    scores: dict[str, Tensor] = {}
    for part in search.together:
        factor = float(np.exp(random.normal(0, spread)))
        scores |= {group.name: look.scores[group.name] * factor for group in part}
    harm = {path: value * float(np.exp(random.normal(0, spread))) for path, value in look.harm.items()}
    return replace(look, scores=scores, harm=harm)
