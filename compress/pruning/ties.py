"""Groups that must keep the same share, because one number of a configuration says how wide all of them are.

The layers of a `transformers` network have one feed-forward width and one number of heads; each may lose channels of
its own, but all as many. Tied groups go in steps: a step takes the same share from each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence

from compress.pruning.groups import Chosen, Group

Ties = Mapping[str, Hashable]
"""For each tied group by name what it is tied by; groups of the same value are tied. Others are alone."""


def tied(groups: Sequence[Group], ties: Ties) -> list[list[Group]]:
    """Groups that are tied together, in the order of the network; those alone are lists of one."""
    found: dict[Hashable, list[Group]] = {}
    for group in groups:
        found.setdefault(("tie", ties[group.name]) if group.name in ties else ("alone", group.name), []).append(group)
    return list(found.values())


def steps_in(groups: Sequence[Group]) -> int:
    """Into how many equal steps tied groups fall."""
    return math.gcd(*(group.units for group in groups))


def kept_steps(units: int, unit_size: int, round_to: int, minimum_share: float) -> list[int]:
    """How many units may stay, falling: all of them, then multiples that make the channels a multiple of `round_to`."""
    return _falling(units, round_to // math.gcd(round_to, unit_size), minimum_share)


def tied_steps(groups: Sequence[Group], round_to: int, minimum_share: float) -> list[int]:
    """As `kept_steps`, in steps of tied groups. Whole heads go whatever `round_to` says."""
    steps = steps_in(groups)
    sizes = [group.channels // steps for group in groups if not group.whole_heads]
    return _falling(steps, math.lcm(*(round_to // math.gcd(round_to, size) for size in sizes)), minimum_share)


def _falling(units: int, step: int, minimum_share: float) -> list[int]:
    floor = max(1, math.ceil(units * minimum_share - 1e-9))
    return [units, *(kept for kept in range((units - 1) // step * step, 0, -step) if kept >= floor)]


def per_step(groups: Sequence[Group]) -> list[int]:
    """How many units of each tied group a step takes."""
    return [group.units // steps_in(groups) for group in groups]


def pairwise_steps(groups: Sequence[Group], gone: Chosen, round_to: int, minimum_share: float) -> list[tuple[int, int]]:
    """(steps kept before, after) for each block that tied groups may still lose when some units are `gone`."""
    each = per_step(groups)[0]
    left = steps_in(groups) - len(set(gone.get(groups[0].name, ()))) // each
    return list(itertools.pairwise(step for step in tied_steps(groups, round_to, minimum_share) if step <= left))
