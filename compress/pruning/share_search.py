"""Pruning to a share of the arithmetic or of the parameters, with whole blocks among what may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.candidates import Contest
from compress.pruning.cost import Costs
from compress.pruning.cost_search import Search
from compress.pruning.importance.measures import Given
from compress.pruning.noted import Noted
from compress.pruning.phases import Recall
from compress.pruning.prunable import Prunable
from compress.pruning.prune import PruneLog
from compress.pruning.selection import TOLERANCE
from compress.pruning.settings import Pruning
from compress.pruning.shape import Channels, Kept, Shape, channels_of, left
from compress.stage import Progress


@dataclass(frozen=True)
class Product:
    """A part of a count: `each` times how many channels its `sides` have left."""

    name: str
    each: float
    sides: tuple[Channels, ...] = ()

    @property
    def groups(self) -> set[str]:
        """The groups that decide it."""
        return set().union(*(side.groups for side in self.sides))

    def left(self, kept: Kept) -> float:
        """The count once groups keep so many units."""
        return self.each * prod(side.left(kept) for side in self.sides)


class Counted:
    """The share of a network's `macs` or `parameters` that shapes keep, as a sum over its parameters.

    What else multiplies, attention above all, is shared out as `compress.pruning.cost` does.
    """

    def __init__(self, costs: Costs, measure: str) -> None:
        times = costs.positions if measure == "macs" else dict.fromkeys(costs.sized, 1)
        found = [_product(costs, name, count) for name, count in times.items()]
        if measure == "macs":
            found += _rest(costs)
        self.layers, whole = tuple(found), {name: group.units for name, group in costs.groups.items()}
        self.total = sum(part.left(whole) for part in self.layers)

    def predict(self, shape: Shape) -> float:
        """The share that is left."""
        return sum(self.layer_cost(part, shape.kept) for part in left(self.layers, shape.dropped))

    def layer_cost(self, layer: Product, kept: Kept) -> float:
        """The share that one part is."""
        return layer.left(kept) / self.total


def _product(costs: Costs, name: str, times: float) -> Product:
    """A parameter that is counted so many times."""
    sized = costs.sized[name]
    sides = [channels_of(costs, sized, dim) for dim in range(len(sized.shape))]
    fixed = prod(side.fixed for side in sides if not side.groups)
    return Product(name, times * fixed, tuple(side for side in sides if side.groups))


def _rest(costs: Costs) -> list[Product]:
    """What is multiplied outside of layers, by heads where there are any."""
    width = sum(costs.attention.values())
    found = []
    for name, own in costs.attention.items():
        group = costs.groups[name]
        assert group.heads is not None
        each = costs.rest * own / width / group.units
        found.append(Product(group.heads.path, each, (Channels(0, ((name, 1.0),)),)))
    return found or [Product("", float(costs.rest))]


def prune_with_blocks(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    settings: Pruning,
    given: Given,
    recall: Recall[dict[str, Any]],
    progress: Progress,
    noted: Noted | None = None,
    *,
    quick: bool = False,
) -> PruneLog:
    """Remove channels and blocks from `module`, in place, until the share of `settings.keep` is left, or a little less.

    Arguments as those of `compress.pruning.reach.prune_to_time`; `quick` is for rehearsals: no candidates are judged.

    Raises:
        UsageError: the share cannot be reached; as `prune_module`.
        StageError: the loss on training examples is not a number.
    """
    network = Prunable.find(module, example_inputs, settings, given.seed)
    measure, wanted = settings.share.measure, settings.share.share
    search = Search(network, settings)
    counted = Counted(Costs(module, network.groups, example_inputs), measure)
    least = counted.predict(search.floor)
    if least > wanted * (1 + TOLERANCE):
        raise UsageError(
            f"prune.keep.{measure}: a share of {wanted:g} cannot be reached; the least that `minimum_share` and "
            f"`round_to` leave is {least:.3f}, blocks gone. Ask for more, or lower these floors"
        )

    def choose() -> dict[str, Any]:
        count = 1 if quick else settings.candidates
        look = Contest(search, given, count, progress, noted or Noted()).best_look(search, counted, wanted)
        removed, shape = search.choose(counted, wanted, look)
        reached = counted.predict(shape)
        if reached > wanted * (1 + TOLERANCE):
            raise UsageError(
                f"prune.keep.{measure}: a share of {wanted:g} was not reached; {reached:.3f} is as near as blocks "
                "and widths came. Ask for more, lower `minimum_share` or `round_to`, or set `depth: false`"
            )
        return {"removed": removed, "dropped": sorted(shape.dropped)}

    choice = recall(choose)
    done = network.without(
        choice["removed"], given.seed, choice["dropped"], given.batches if settings.reconstruct else ()
    )
    return PruneLog(measure=measure, asked=wanted, reached=done.share(measure), fixed=network.fixed, **vars(done))
