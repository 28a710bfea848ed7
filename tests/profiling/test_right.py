from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest

from compress.profiling.right import packed, paired, read_right, unpacked


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 1000])
def test_what_is_right_survives_a_trip_through_json(examples: int) -> None:
    right = np.random.default_rng(examples).random(examples) < 0.9
    plain = json.loads(json.dumps(packed(right)))
    np.testing.assert_array_equal(unpacked(plain), right)
    assert len(plain["bits"]) <= 4 * -(-examples // 24)
    found = read_right({"file": "a", "target": "local", **plain})
    assert (found.file, found.target) == ("a", "local") and found.bits.sum() == right.sum()


@pytest.mark.parametrize("damage", [{"bits": "?"}, {"bits": ""}, {"examples": 20}])
def test_damaged_bits_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="right answers"):
        unpacked(packed(np.ones(9, dtype=bool)) | damage)


def test_the_gain_is_counted_and_mcnemars_p_is_the_binomials() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = np.array([True] * 88 + [False] * 2 + [True] * 7 + [False] * 3)
    found = paired(first, second)
    assert (found.only_first, found.only_second) == (2, 7) and found.gain == pytest.approx(0.05)
    assert found.p_value == pytest.approx(2 * sum(comb(9, k) for k in range(3)) / 2**9)
    assert paired(second, first).ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))
    with pytest.raises(ValueError, match="cannot be paired"):
        paired(first, second[1:])


def test_paired_intervals_cover_and_are_narrower_than_if_the_examples_were_others() -> None:
    """Two files that err together: examples are hard or easy for both; the difference in truth is known."""
    chance = np.random.default_rng(0)
    covered, narrower = 0, 0
    for _ in range(400):
        wrong = chance.random(500) < 0.1
        first, second = ~(wrong & (chance.random(500) < 0.9)), ~(wrong & (chance.random(500) < 0.8))
        found = paired(first, second)
        covered += found.ci95[0] <= 0.01 <= found.ci95[1]
        alone = 1.96 * np.sqrt((first.var() + second.var()) / 500)
        narrower += (found.ci95[1] - found.ci95[0]) / 2 < 0.8 * alone
    assert covered >= 0.93 * 400 and narrower >= 0.95 * 400
