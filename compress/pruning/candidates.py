"""Several choices for one cost, of which that is taken after which the network answers most like before.

What units and blocks are worth, each by itself, adds up badly once many go. So what was seen of them is weighed
differently, in several ways at random, each gives a choice of its own, and these are judged as wholes, with batch norms
that have been estimated anew: Li, Wu, Su, Wang, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network
Pruning", ECCV 2020 (arXiv:2007.02491), which ranks by accuracy. Here by the distance of outputs, which needs no task
and fewer examples, and the best are judged again after some training. The loss would not do: right after a cut it is
that of a few examples of which the network is wrongly certain. Of twelve choices of one time for a ResNet-20, which
were all trained for three epochs, the final accuracy went with that distance (rank correlation -0.93 after thirty
steps; before any, of eleven of them, -0.80 to -0.85), and not with the loss (0.15). Between good ones it takes more:
among fourteen of the best sixteen of 96, all trained for four epochs, it was -0.81 after 120 steps on 768 images, -0.65
after thirty of them, and -0.09 after thirty on 192. Among twelve of the best third for a ResNet-56 the distance after
sixty steps went with that after thirty (0.94), less with that after ten (0.73) and that before any (0.51).

From a third of the choices it is learned what layers and blocks are worth together; the others are made by that, or of
good ones, changed in a few weights: evolution with mutation alone, as Real, Aggarwal, Huang, Le, "Regularized Evolution
for Image Classifier Architecture Search", AAAI 2019 (arXiv:1802.01548) searches networks. So are half of those that are
trained: of the ones that are good after some training, since only that tells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from compress.pruning.cost_search import CostModel, Look, Search
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.judge import Judge
from compress.pruning.learned_worth import Learner
from compress.pruning.noted import Noted
from compress.pruning.shape import Shape
from compress.stage import Progress
from compress.training.randomness import derived_seed

SPREAD = 1.0
"""How differently what was seen is weighed: the standard deviation of the logarithm of the factors."""
DOUBT = 0.4
"""The same, of what was learned."""
CHANGED = 0.25
"""The part of a good choice's weights that another one made of it has anew, on average; at least one."""
NEARBY, ATTEMPTS = 0.05, 5
"""The same of one that trains well, and how often one is made anew that came out the same as another."""
FAVOURED = 3.0
"""How far down the ranks choices are that others are made of: the mean of an exponential distribution."""
TRAINED, FINALISTS = 6, 8
"""One in so many is trained for `SHORT` steps, with as many that are made of these; one in so many of all these, the
best, for `LONG` ones; at least two."""
SHORT, LONG = 30, 120
"""Steps of training."""
ALIKE = 2
"""How many of those to train may want the same blocks before others have their turn."""
FEWER = 3
"""How many times fewer are judged, and trained, for a further cost."""


@dataclass(frozen=True)
class Entry:
    """What was chosen by a look, and how far the answers then are from before; infinitely until that is known."""

    look: Look
    removed: Chosen
    shape: Shape
    distance: float = math.inf


class Contest:
    """Choices of one network, for one cost or several, and how far from before it answers right after each.

    What was judged and learned for one cost is of use for the next, so that fewer choices are judged for that.

    Args:
        search: what may go.
        given: examples, and the seed of the weights.
        count: how many choices are judged for the first cost; of 1 none is.
        progress: says how far it is.
        noted: distances of choices of this network by these examples.
    """

    def __init__(self, search: Search, given: Given, count: int, progress: Progress, noted: Noted) -> None:
        self.search, self.given, self.progress, self.noted = search, given, progress, noted
        self.count = count if given.batches else 1
        self.random = np.random.default_rng(derived_seed(given.seed, "candidates"))
        self.judged: dict[str, Entry] = {}
        self.trained: dict[str, Entry] = {}

    @cached_property
    def judge(self) -> Judge:
        """Judges the choices."""
        return Judge(self.search, self.given)

    @cached_property
    def whole(self) -> Look:
        """What matters while nothing is gone."""
        return self.search.look_at_whole(self.given)

    @cached_property
    def learner(self) -> Learner:
        """Learns from what is judged."""
        return Learner(self.search, self.whole)

    def best_look(self, search: Search, model: CostModel, wanted: float) -> Look:
        """What to choose by: what was seen on the way to a cost, or while nothing was gone and weighed in other ways.

        Args:
            search: what may go, maybe within some widths only.
            model: what shapes cost.
            wanted: the cost.
        """
        if self.count < 2:
            return search.look(model, wanted, self.given)
        count = max(2, self.count // FEWER) if self.judged else self.count
        part = max(2, count // TRAINED)
        usable = [entry for entry in self.trained.values() if search.can_use(entry.look)]
        known = sorted(usable, key=_distance)[: part // 2]
        again = [self._judged(_choice(entry.look, search, model, wanted)) for entry in known]
        entered = [*again, *varied(self.enter(search, model, wanted, count))]
        first = list({search.left_of(entry.shape): entry for entry in entered}.values())[:part]

        def changed(entry: Entry) -> Entry:
            return _choice(self.otherwise(entry.look, NEARBY, SPREAD), search, model, wanted)

        return self.best_after_training(first, changed).look

    def enter(self, search: Search, model: CostModel, wanted: float, count: int) -> list[Entry]:
        """Choose in `count` ways, and judge what is not judged yet: by what was seen first, then of the whole network.

        A third weighs what was seen at random, or as the best choices for another cost did; after that what is learned
        is weighed so in turn with good choices.
        """
        usable = [entry for entry in self.judged.values() if search.can_use(entry.look)]
        best = [entry.look for entry in sorted(usable, key=_distance)[: count // 3 + 1]]
        entered: dict[str, Entry] = {}
        with self.progress.task("judging choices", count) as advance:
            for number in range(count):
                if number < len(best):
                    look = best[number]
                elif number == 0:
                    look = search.look(model, wanted, self.given)
                elif number <= count // 3:
                    look = self.otherwise(self.whole, 1.0, SPREAD)
                elif number % 2:
                    look = self.otherwise(self.learner.look(), 1.0, DOUBT)
                else:
                    look = self.otherwise(self._good(entered.values()).look, CHANGED, SPREAD)
                entry = self._judged(_choice(look, search, model, wanted))
                entered.setdefault(search.left_of(entry.shape), entry)
                advance(1)
        return list(entered.values())

    def best_after_training(self, first: Sequence[Entry], changed: Callable[[Entry], Entry]) -> Entry:
        """The best after some training of a few choices, and of as many that are made of those which do well by then.

        Most are trained for a moment only, and the best of them again for longer: successive halving, as Jamieson and
        Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016
        (arXiv:1502.07943).

        Args:
            first: the few.
            changed: makes another choice of one.
        """
        count = max(2, 2 * len(first) // FINALISTS)
        with self.progress.task("training the best choices", 2 * len(first) * SHORT + count * LONG) as advance:
            short: dict[str, Entry] = {}
            for entry in first:
                short[self.search.left_of(entry.shape)] = self._trained(entry, SHORT, advance)
            for _ in first:  # where nothing new is found the first one stands in, whose distance is known
                others = (changed(self._good(short.values())) for _ in range(ATTEMPTS))
                other = next((other for other in others if self.search.left_of(other.shape) not in short), first[0])
                short[self.search.left_of(other.shape)] = self._trained(other, SHORT, advance)
            self.trained |= short
            finalists = sorted(short.values(), key=_distance)[:count]
            return min((self._trained(entry, LONG, advance) for entry in finalists), key=_distance)

    def _trained(self, entry: Entry, steps: int, advance: Callable[[int], None]) -> Entry:
        """The same with the distance after so many steps."""
        distance = self.noted.get(
            f"{self.search.left_of(entry.shape)}, {steps} steps",
            lambda: self.judge.distance_after_training(entry.removed, entry.shape.dropped, steps),
        )
        advance(steps)
        return replace(entry, distance=distance)

    def _judged(self, entry: Entry) -> Entry:
        """The same with its distance right after the cut, found unless something that leaves the same was judged."""
        left = self.search.left_of(entry.shape)
        if left not in self.judged:
            distance = self.noted.get(left, lambda: self.judge.distance(entry.removed, entry.shape.dropped))
            self.judged[left] = replace(entry, distance=distance)
            self.learner.add(entry.shape, distance)
        return replace(entry, distance=self.judged[left].distance)

    def _good(self, entered: Iterable[Entry]) -> Entry:
        ranked = sorted(entered, key=_distance)
        return ranked[min(int(self.random.exponential(FAVOURED)), len(ranked) - 1)]

    def otherwise(self, look: Look, part: float, spread: float) -> Look:
        """What was seen, with other weights for a part of it: one for all groups that are tied, one for each block."""
        together, paths = self.search.together, sorted(look.harm)
        changed = self.random.random(len(together) + len(paths)) < part
        changed[self.random.integers(len(changed))] = True
        factors = np.exp(self.random.normal(0, spread, len(changed)) * changed)
        scores = {g.name: look.scores[g.name] * f for tied, f in zip(together, factors, strict=False) for g in tied}
        harm = {path: look.harm[path] * f for path, f in zip(paths, factors[len(together) :], strict=True)}
        return replace(look, scores=scores, harm=harm)


def _choice(look: Look, search: Search, model: CostModel, wanted: float) -> Entry:
    """What is chosen by a look, not judged yet."""
    return Entry(look, *search.choose(model, wanted, look))


def varied(entries: Iterable[Entry]) -> list[Entry]:
    """The best first, but only `ALIKE` that drop the same blocks before others have their turn.

    What is right after the cut says little of what will be between such as differ in their blocks.
    """
    turns: Counter[frozenset[str]] = Counter()
    placed: list[tuple[int, Entry]] = []
    for entry in sorted(entries, key=_distance):
        placed.append((turns[entry.shape.dropped] // ALIKE, entry))
        turns[entry.shape.dropped] += 1
    return [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]


def _distance(entry: Entry) -> float:
    return entry.distance
