from __future__ import annotations

import numpy as np
import pytest

from compress.data.cut import cut, take

CLASSES = np.random.default_rng(0).choice(5, size=1003, p=[0.5, 0.3, 0.1, 0.09, 0.01])


def test_parts_are_disjoint_and_complete() -> None:
    parts = cut(CLASSES, [0.15, 0.2], 0)
    assert [len(part) for part in parts] == [150, 201, 652]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1003))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("seed", range(5))
def test_each_part_holds_each_class_in_its_share(seed: int) -> None:
    for share, part in zip((0.15, 0.2, 0.65), cut(CLASSES, [0.15, 0.2], seed), strict=True):
        expected = np.bincount(CLASSES, minlength=5) * share
        found = np.bincount(CLASSES[part], minlength=5)
        assert np.abs(found - expected).max() <= 1.5  # rounding at both ends


def test_the_cut_is_a_function_of_the_seed() -> None:
    one, again, other = cut(CLASSES, [0.2], 0), cut(CLASSES, [0.2], 0), cut(CLASSES, [0.2], 1)
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])


def test_targets_that_are_no_classes_are_cut_at_random() -> None:
    values = np.linspace(0, 1, 1000)[:, None].astype(np.float32)
    part = cut(values, [0.3], 0)[0]
    assert len(part) == 300
    assert abs(values[part].mean() - 0.5) < 0.06


def test_take_is_stratified_and_gives_all_where_there_are_no_more() -> None:
    chosen = take(CLASSES, 100, 0)
    assert len(chosen) == 100
    assert np.abs(np.bincount(CLASSES[chosen], minlength=5) - np.bincount(CLASSES) * 100 / 1003).max() <= 1
    np.testing.assert_array_equal(take(CLASSES, 5000, 0), np.arange(1003))
