"""Several choices for one cost, of which that is taken after which the network answers most like before.

What units and blocks are worth, each by itself, adds up badly once many go. So what was seen of them is weighed
differently, in several ways at random, each gives a choice of its own, and these are judged as wholes, with batch norms
that have been estimated anew: Li, Wu, Su, Wang, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network
Pruning", ECCV 2020 (arXiv:2007.02491), which ranks by accuracy. Here by the distance of outputs, which needs no task
and fewer examples, and the best are judged again after a few steps of training. The loss would not do: right after a
cut it is that of a few examples of which the network is wrongly certain. Of twelve choices of one time for a ResNet-20,
which were all trained for three epochs, the final accuracy went with that distance (rank correlation -0.93 after thirty
steps; before any, of eleven of them, -0.80 to -0.85), and not with the loss (0.15).

Good choices are changed in a few weights to make more, first by what they are before training, then by what they are
after it: evolution with mutation alone, as Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier
Architecture Search", AAAI 2019 (arXiv:1802.01548) searches networks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import numpy as np

from compress.pruning.cost_search import CostModel, Look, Search
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.judge import Judge
from compress.pruning.shape import Shape
from compress.stage import Progress
from compress.training.randomness import derived_seed

SPREAD = 1.0
"""How differently what was seen is weighed: the standard deviation of the logarithm of the factors."""
CHANGED = 0.25
"""The part of a good choice's weights that another one made of it has anew, on average; at least one."""
FAVOURED = 3.0
"""How far down the ranks choices are that others are made of: the mean of an exponential distribution."""
GENERATIONS = 2
"""How often, after some training of the best, more choices are made of these."""
LATER = 6
"""Each such generation has this part of all choices."""
TRAINED = 6
"""How many of the best are judged again after some training; of later generations half as many each."""


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
    contest, whole = Contest(search, model, wanted, given, progress), search.look_at_whole(given)
    later = count // LATER
    early = count - 1 - GENERATIONS * later
    contest.enter(1 + early - early // 2, lambda: contest.otherwise(whole, 1.0) if contest.judged else first)
    contest.enter(early // 2, lambda: contest.otherwise(contest.good(contest.judged, FAVOURED).look, CHANGED))
    contest.train(TRAINED)
    for _ in range(GENERATIONS if later else 0):
        contest.enter(later, lambda: contest.otherwise(contest.good(contest.trained, 1.0).look, CHANGED))
        contest.train(TRAINED // 2)
    return min(contest.trained.values(), key=_distance).look


@dataclass(frozen=True)
class Entry:
    """What was chosen by a look, and how far the answers then are from before."""

    look: Look
    removed: Chosen
    shape: Shape
    distance: float


Entries = dict[Hashable, Entry]
"""By what is left of the network: several looks may leave the same."""


class Contest:
    """Choices for one cost: how far from before the network answers right after each, and after some training."""

    def __init__(self, search: Search, model: CostModel, wanted: float, given: Given, progress: Progress) -> None:
        self.search, self.model, self.wanted, self.progress = search, model, wanted, progress
        self.judge = Judge(search, given)
        self.random = np.random.default_rng(derived_seed(given.seed, "candidates"))
        self.judged: Entries = {}
        self.trained: Entries = {}

    def enter(self, count: int, look: Callable[[], Look]) -> None:
        """Choose by so many looks, and judge what was not judged before."""
        with self.progress.task("judging choices", count) as advance:
            for _ in range(count):
                seen = look()
                removed, shape = self.search.choose(self.model, self.wanted, seen)
                left = self.search.left_of(shape)
                if left not in self.judged:
                    self.judged[left] = Entry(seen, removed, shape, self.judge.distance(removed, shape.dropped))
                advance(1)

    def train(self, count: int) -> None:
        """Judge the best that were not trained yet after some training."""
        new = sorted(self.judged.keys() - self.trained.keys(), key=lambda left: self.judged[left].distance)[:count]
        with self.progress.task("training the best choices for a moment", len(new)) as advance:
            for left in new:
                entry = self.judged[left]
                distance = self.judge.distance_after_training(entry.removed, entry.shape.dropped)
                self.trained[left] = replace(entry, distance=distance)
                advance(1)

    def good(self, entries: Entries, down: float) -> Entry:
        """One of the best, `down` ranks below the very best on average."""
        ranked = sorted(entries.values(), key=_distance)
        return ranked[min(int(self.random.exponential(down)), len(ranked) - 1)]

    def otherwise(self, look: Look, part: float) -> Look:
        """What was seen, with other weights for a part of it: one for all groups that are tied, one for each block."""
        together, paths = self.search.together, sorted(look.harm)
        changed = self.random.random(len(together) + len(paths)) < part
        changed[self.random.integers(len(changed))] = True
        factors = np.exp(self.random.normal(0, SPREAD, len(changed)) * changed)
        scores = {g.name: look.scores[g.name] * f for tied, f in zip(together, factors, strict=False) for g in tied}
        harm = {path: look.harm[path] * f for path, f in zip(paths, factors[len(together) :], strict=True)}
        return replace(look, scores=scores, harm=harm)


def _distance(entry: Entry) -> float:
    return entry.distance
