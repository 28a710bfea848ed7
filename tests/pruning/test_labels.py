from __future__ import annotations

import random

import numpy as np
import pytest

from compress.pruning.labels import FREE, MEETS_INPUT, PARTS, RIGID, Ids, Labels


def _classes(labels: Labels, ids: Ids) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for place, root in enumerate(labels.roots(ids).tolist()):
        found.setdefault(root, set()).add(place)
    return {frozenset(places) for places in found.values()}


@pytest.mark.parametrize("seed", range(20))
def test_joining_gives_the_connected_components_and_keeps_reasons(seed: int) -> None:
    draw, labels, count = random.Random(seed), Labels(), 40
    ids = labels.fresh(count)
    near: dict[int, set[int]] = {number: {number} for number in range(count)}
    marked = draw.sample(range(count), 3)
    labels.fix(ids[marked], "marked")
    for _ in range(5):
        one, other = (np.array([draw.randrange(count) for _ in range(6)]) for _ in range(2))
        labels.join(ids[one], ids[other])
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            whole = near[a] | near[b]
            near |= dict.fromkeys(whole, whole)
    assert _classes(labels, ids) == {frozenset(places) for places in near.values()}
    expected = ["marked" if near[number] & set(marked) else "" for number in range(count)]
    assert labels.reasons(ids) == expected


def test_axes_without_labels() -> None:
    labels = Labels()
    ids = labels.fresh(3)
    assert labels.join(FREE, ids) is ids
    assert labels.join(ids, FREE) is ids
    assert labels.reasons(ids) == [""] * 3
    assert labels.join(RIGID, FREE) is RIGID
    labels.join(RIGID, ids)
    assert labels.reasons(ids) == [MEETS_INPUT] * 3


def test_heads_that_are_split_off_are_the_units() -> None:
    labels = Labels()
    ids = labels.fresh(12)
    heads, size = labels.split(ids, (3, 4), 0)
    merged = labels.merge([heads, size], [3, 4])
    labels.settle()
    expected = {frozenset(range(start, start + 4)) for start in (0, 4, 8)}
    assert merged is ids
    assert _classes(labels, ids) == expected
    assert isinstance(size, np.ndarray)
    assert labels.reasons(size) == [PARTS] * 4


def test_a_shuffle_ties_the_same_positions_of_its_groups() -> None:
    labels = Labels()
    ids = labels.fresh(8)
    groups, places = labels.split(ids, (2, 4))
    turned = labels.merge([places, groups], [4, 2])
    labels.settle()
    assert _classes(labels, ids) == {frozenset({place, place + 4}) for place in range(4)}
    assert isinstance(turned, np.ndarray)
    assert labels.roots(turned).tolist() == labels.roots(ids.reshape(2, 4).T.reshape(-1)).tolist()


def test_a_map_that_is_laid_flat_goes_by_its_channels() -> None:
    labels = Labels()
    channels = labels.fresh(3)
    flat = labels.merge([channels, RIGID], [3, 4])
    labels.settle()
    assert isinstance(flat, np.ndarray)
    assert labels.roots(flat).tolist() == np.repeat(labels.roots(channels), 4).tolist()


def test_a_product_none_of_whose_parts_may_go_stays() -> None:
    labels = Labels()
    ids = labels.fresh(6)
    for part in labels.split(ids, (2, 3)):
        labels.fix(part, "no")
    labels.settle()
    assert labels.reasons(ids) == [PARTS] * 6


def test_later_reasons_replace_earlier_ones_only_if_told() -> None:
    labels = Labels()
    ids = labels.fresh(1)
    labels.fix(ids, "one")
    labels.fix(ids, "two")
    assert labels.reasons(ids) == ["one"]
    labels.fix(ids, "three", over=True)
    assert labels.reasons(ids) == ["three"]
