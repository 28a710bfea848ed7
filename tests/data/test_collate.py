"""Every claim against loops over plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.data.collate import IGNORED, causal, masked, pad, sequence_to_sequence
from compress.data.ragged import Ragged

RANDOM = np.random.default_rng(0)
SIZE, PAD, MASK = 1000, 0, 4
SPECIAL = np.arange(SIZE) < 5


def rows_of(lengths: list[int], low: int = 5) -> list[list[int]]:
    return [RANDOM.integers(low, SIZE, length).tolist() for length in lengths]


def hide(rows: list[list[int]], examples: list[int], **more: Any) -> tuple[npt.NDArray[np.int64], ...]:
    settings = {"share": 0.15, "pad_id": PAD, "mask_id": MASK, "special": SPECIAL, "augment": (3, 1), **more}
    return masked(Ragged.of(rows), examples=np.array(examples), **settings)


def test_padding_is_on_the_right_and_the_mask_says_where() -> None:
    ids, mask = pad(Ragged.of([[7, 8, 9], [5]]), 2)
    assert ids.tolist() == [[7, 8, 9], [5, 2, 2]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert [str(array.dtype) for array in (ids, mask)] == ["int64"] * 2


def test_a_padding_id_inside_a_text_is_a_token() -> None:
    _, mask = pad(Ragged.of([[7, 2, 9], [5]]), 2)
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_causal_targets_are_the_tokens_that_follow() -> None:
    rows = rows_of([6, 1, 4, 9])
    ids, mask, targets = causal(Ragged.of(rows), PAD)
    assert ids.shape == mask.shape == targets.shape == (4, 9)
    for number, row in enumerate(rows):
        expected = [row[place + 1] if place + 1 < len(row) else IGNORED for place in range(9)]
        assert targets[number].tolist() == expected


def test_prompts_are_read_but_not_learnt() -> None:
    rows, prompts = rows_of([6, 5, 4]), [3, 0, 4]
    ids, _, targets = causal(Ragged.of(rows), PAD, np.array(prompts))
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        learnt = [row[place + 1] if prompt <= place + 1 < len(row) else IGNORED for place in range(6)]
        assert targets[number].tolist() == learnt
        assert ids[number, : len(row)].tolist() == row
    # The last token of a prompt is where the first token of the answer is learnt.
    assert targets[0].tolist() == [IGNORED, IGNORED, *rows[0][3:], IGNORED]


def test_a_decoder_reads_one_place_later_what_it_must_say() -> None:
    rows, answers = rows_of([3, 5]), [[11, 12, 1], [13, 1]]
    ids, mask, read, targets = sequence_to_sequence(Ragged.of(rows), Ragged.of(answers), PAD, 9)
    assert ids.shape == (2, 5)
    assert mask.sum(axis=1).tolist() == [3, 5]
    assert read.tolist() == [[9, 11, 12], [9, 13, PAD]]
    assert targets.tolist() == [[11, 12, 1], [13, 1, IGNORED]]


def test_masks_are_the_same_whatever_the_batch() -> None:
    rows = rows_of(RANDOM.integers(1, 60, 40).tolist())
    together = hide(rows, list(range(40)))
    for number in (0, 7, 39):
        alone = hide([rows[number]], [number])
        beside = hide([rows[3], rows[number], rows_of([90])[0]], [3, number, 77])
        for one, other, batch in zip(alone, beside, together, strict=True):
            length = len(rows[number])
            np.testing.assert_array_equal(one[0], batch[number, :length])
            np.testing.assert_array_equal(one[0], other[1, :length])


@pytest.mark.parametrize(("change", "same"), [({"augment": (4, 1)}, False), ({"augment": (3, 2)}, False), ({}, True)])
def test_masks_are_a_function_of_seed_and_epoch(change: dict[str, Any], same: bool) -> None:
    rows = rows_of([50] * 4)
    first, second = hide(rows, [0, 1, 2, 3])[2], hide(rows, [0, 1, 2, 3], **change)[2]
    assert np.array_equal(first, second) is same


def test_masks_differ_between_examples_and_are_fixed_outside_training() -> None:
    row = rows_of([50])[0]
    targets = hide([row, row], [0, 1], augment=None)[2]
    assert not np.array_equal(targets[0], targets[1])
    np.testing.assert_array_equal(targets, hide([row, row], [0, 1], augment=None)[2])
    assert not np.array_equal(targets, hide([row, row], [0, 1], augment=(0, 0))[2])


def test_the_share_of_each_example_is_chosen() -> None:
    lengths = [1, 2, 6, 7, 10, 40, 133]
    targets = hide(rows_of(lengths), list(range(7)))[2]
    counted = (targets != IGNORED).sum(axis=1).tolist()
    assert counted == [max(1, round(0.15 * length)) for length in lengths]


def test_eight_of_ten_chosen_tokens_become_the_mask_one_any_token_and_one_stays() -> None:
    rows = rows_of([100] * 2000)
    ids, _, targets = hide(rows, list(range(2000)))
    before = np.array(rows)
    chosen = targets != IGNORED
    np.testing.assert_array_equal(targets[chosen], before[chosen])
    np.testing.assert_array_equal(ids[~chosen], before[~chosen])
    count = chosen.sum()
    assert count == 2000 * 15
    deviation = np.sqrt(0.1 * 0.9 / count)
    shares = [(ids[chosen] == MASK).mean(), (ids[chosen] == before[chosen]).mean()]
    others = ids[chosen][(ids[chosen] != MASK) & (ids[chosen] != before[chosen])]
    np.testing.assert_allclose([*shares, len(others) / count], [0.8, 0.1, 0.1], atol=5 * deviation)
    assert abs(others.mean() - SIZE / 2) < 5 * SIZE / np.sqrt(12 * len(others))
    places = chosen.mean(axis=0)
    assert abs(places - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 2000)  # no place of a text is preferred


def test_special_tokens_and_padding_are_never_hidden() -> None:
    rows = [[2, *row, 3] for row in rows_of([1, 3, 40])] + [[2, 3]]
    for epoch in range(50):
        ids, mask, targets = hide(rows, [0, 1, 2, 3], augment=(0, epoch))
        for number, row in enumerate(rows):
            assert (ids[number, 0], ids[number, len(row) - 1]) == (2, 3)
            assert (ids[number, len(row) :] == PAD).all()
            assert targets[number, 0] == targets[number, len(row) - 1] == IGNORED
            assert (targets[number, len(row) :] == IGNORED).all()
        assert mask.sum(axis=1).tolist() == [len(row) for row in rows]
        assert (targets[:3] != IGNORED).any(axis=1).all()
        assert (targets[3] == IGNORED).all()  # nothing but special tokens
