from __future__ import annotations

import numpy as np

from compress.data.random_bits import key_of, random_bits, random_integers, random_order


def splitmix64(state: int) -> int:
    """The generator in Python's own integers, as published: the oracle."""
    mask = (1 << 64) - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_bits_are_splitmix64() -> None:
    key = key_of(3, 1)
    expected = [splitmix64(key + index * 0x9E3779B97F4A7C15) for index in range(100)]
    assert random_bits(key, np.arange(100)).tolist() == expected
    assert random_bits(0, np.array([1]))[0] == 0xE220A8397B1DCDAF  # the published first output for seed 0


def test_a_number_depends_on_its_own_index_only() -> None:
    whole = random_bits(7, np.arange(1000))
    chosen = np.array([999, 3, 500])
    np.testing.assert_array_equal(random_bits(7, chosen), whole[chosen])


def test_keys_differ_with_every_number_and_their_order() -> None:
    keys = {key_of(a, b) for a in range(-5, 30) for b in range(30)}
    assert len(keys) == 35 * 30
    assert key_of(1) != key_of(1, 0)


def test_integers_are_even() -> None:
    counts = np.bincount(random_integers(key_of(0, 0), np.arange(90_000), 9), minlength=9)
    # Chi-square with 8 degrees of freedom: 26.1 is exceeded once in a thousand.
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 26.1


def test_order_is_a_permutation() -> None:
    order = random_order(key_of(0), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    assert not np.array_equal(order, random_order(key_of(1), 1000))
