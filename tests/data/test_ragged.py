from __future__ import annotations

import numpy as np
import pytest

from compress.data.ragged import Ragged

ROWS = [[5, 6, 7], [], [8], [9, 10]]


def test_rows_come_back_as_they_went_in() -> None:
    rows = Ragged.of(ROWS)
    assert [rows[index].tolist() for index in range(len(rows))] == ROWS
    assert rows.lengths.tolist() == [3, 0, 1, 2]
    assert (str(rows.values.dtype), len(rows.values)) == ("int32", 6)


def test_rows_can_be_taken_in_any_order_and_again() -> None:
    some = Ragged.of(ROWS).take(np.array([3, 0, 3])).take(np.array([0, 1]))
    assert [some[index].tolist() for index in range(len(some))] == [[9, 10], [5, 6, 7]]


@pytest.mark.parametrize("rows", [ROWS, [[]], [[], [1]], [list(range(40))] * 3])
def test_padding_fills_the_right(rows: list[list[int]]) -> None:
    table, there = Ragged.of(rows).padded(-7)
    longest = max(1, *(len(row) for row in rows))
    assert table.tolist() == [row + [-7] * (longest - len(row)) for row in rows]
    assert there.tolist() == [[True] * len(row) + [False] * (longest - len(row)) for row in rows]
    assert table.dtype == np.int64
