"""Pruning in rounds, with training between them: what each round takes, how long it trains, and what all did.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015
(arXiv:1506.02626), section 3.4, pruned a network step by step, training in between, and lost less than at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from compress.errors import UsageError
from compress.pruning.groups import Group
from compress.pruning.prune import PruneLog
from compress.pruning.selection import TOLERANCE
from compress.pruning.settings import Pruning
from compress.pruning.stage import Recover
from compress.pruning.ties import Ties, per_step, tied, tied_steps


def round_target(share: float, number: int, rounds: int) -> float:
    """The share of the unpruned network that is left after round `number`, counted from 1: each takes the same part."""
    return float(share ** (number / rounds))


def round_share(target: float, left: float, open_part: float, *, last: bool) -> float | None:
    """The share of the open part to keep, for a cut that shall end at `target`; None if nothing should be cut.

    Rounds before may have cut more than they should, by one step of channels. The last one also cuts nothing if that
    could only lead away from the target.

    Args:
        target: share of the unpruned network's measure.
        left: what is left of it.
        open_part: of `left`, what may still be cut or is counted with it.
        last: whether no other round follows.

    Raises:
        UsageError: the open part is not enough.
    """
    if left <= target * (1 + (TOLERANCE / 2 if last else 0)):
        return None
    if left - target >= open_part:
        raise UsageError(
            f"prune.keep: {target:g} cannot be reached under `minimum_share` and `round_to`: {left:g} is left"
        )
    return target / left if open_part == left else 1 - (left - target) / open_part


def round_recipe(recipe: Recover, number: int, rounds: int) -> Recover:
    """The recovery of round `number`, counted from 1: its part of the epochs, at least one, the rest in the last.

    The warm-up takes the same part of each round as of the whole.
    """
    if rounds == 1:
        return recipe
    each = max(1, recipe.epochs // rounds)
    epochs = each if number < rounds else max(1, recipe.epochs - each * (rounds - 1))
    warmup = None if recipe.warmup_epochs is None else recipe.warmup_epochs * epochs / recipe.epochs
    return recipe.model_copy(update={"epochs": epochs, "warmup_epochs": warmup})


@dataclass(frozen=True)
class Stock:
    """What each group has left, and the least that it keeps, in units by name; tied groups stand `together`.

    `minimum_share` is of the unpruned layers, but each round sees only what the one before left of them.
    """

    groups: tuple[Group, ...]
    together: tuple[tuple[Group, ...], ...]
    least: Mapping[str, int]
    left: Mapping[str, int]

    @classmethod
    def of(cls, groups: Iterable[Group], ties: Ties, settings: Pruning) -> Stock:
        """That of an unpruned network."""
        groups = tuple(groups)
        together = tuple(tuple(part) for part in tied(groups, ties))
        least: dict[str, int] = {}
        for part in together:
            steps = tied_steps(part, settings.round_to, settings.minimum_share)[-1]
            least |= {group.name: steps * each for group, each in zip(part, per_step(part), strict=True)}
        return cls(groups, together, least, {group.name: group.units for group in groups})

    @property
    def spent(self) -> tuple[str, ...]:
        """Groups that were cut down to their least."""
        left, least = self.left, self.least
        return tuple(g.name for g in self.groups if left[g.name] <= least[g.name] and left[g.name] < g.units)

    def allowed(self, choice: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """What may go of a choice, whose units are in the order in which they go: of tied groups whole steps."""
        found = {name: list(units) for name, units in choice.items() if name not in self.left}
        for part in self.together:
            each = {group.name: units for group, units in zip(part, per_step(part), strict=True)}
            room = min((self.left[name] - self.least[name]) // units for name, units in each.items())
            steps = min(room, *(len(choice.get(name, ())) // units for name, units in each.items()))
            found |= {name: list(choice.get(name, ()))[: steps * units] for name, units in each.items()}
        return {name: units for name, units in found.items() if units}

    def after(self, removed: Mapping[str, Sequence[int]]) -> Stock:
        """The same once these units are gone."""
        return replace(self, left={name: count - len(removed.get(name, ())) for name, count in self.left.items()})

    def shares(self, measure: str, left: float) -> tuple[float, float]:
        """(left, open part) of the unpruned network; the measure is counted of the whole network, or of open groups.

        Args:
            measure: what shares are of.
            left: of the measure, if it is not channels.
        """
        if measure != "channels" or not self.groups:
            return left, left
        total, spent = sum(group.channels for group in self.groups), self.spent
        channels = {group.name: self.left[group.name] * group.unit_size for group in self.groups}
        closed = sum(channels[name] for name in spent)
        return sum(channels.values()) / total, (sum(channels.values()) - closed) / total


@dataclass(frozen=True)
class Cuts:
    """The cuts so far: their logs, what the groups have `stock` of, and the share of the unpruned network `left`."""

    stock: Stock
    logs: tuple[PruneLog, ...] = ()
    left: float = 1.0

    def share(self, measure: str, target: float, *, last: bool) -> float | None:
        """The share of what is left to keep in the next cut; None if there should be none."""
        if not self.logs:  # to cut nothing at all is no answer
            return target
        left, open_part = self.stock.shares(measure, self.left)
        return round_share(target, left, open_part, last=last)

    def after(self, log: PruneLog, removed: Mapping[str, Sequence[int]]) -> Cuts:
        """The same with one more cut."""
        stock = self.stock.after(removed)
        return Cuts(stock, (*self.logs, log), stock.shares(log.measure, self.left * log.reached)[0])

    def joined(self, asked: float) -> PruneLog:
        """The logs as one, of which `asked` is the share of the unpruned network."""
        first, last = self.logs[0], self.logs[-1]
        narrow = {name: after for log in self.logs for name, (_, after) in log.widths.items()}
        widths = {name: (before, narrow[name]) for name, (before, _) in first.widths.items()}
        errors = {name: error for log in self.logs for name, error in log.reconstructed.items()}
        return replace(first, asked=asked, reached=self.left, after=last.after, widths=widths, reconstructed=errors)
