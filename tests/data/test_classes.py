from __future__ import annotations

import pytest

from compress.data.classes import class_numbers
from compress.errors import UsageError


def test_names_are_numbered_in_sorted_order_over_all_splits() -> None:
    numbers, order = class_numbers({"train": ["dog", "ant"], "test": ["cat", "ant"]}, None, "x")
    assert order == ("ant", "cat", "dog")
    assert {name: values.tolist() for name, values in numbers.items()} == {"train": [2, 0], "test": [1, 0]}


def test_names_that_are_numbers_are_sorted_as_numbers() -> None:
    assert class_numbers({"train": ["10", "9", "1"]}, None, "x")[1] == ("1", "9", "10")


def test_the_users_order_counts() -> None:
    numbers, order = class_numbers({"train": ["b", "a"]}, ("b", "unused", "a"), "x")
    assert (numbers["train"].tolist(), order) == ([0, 2], ("b", "unused", "a"))


def test_a_class_without_a_label_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"x has the class 'horze', which `labels` does not name \(did you mean 'horse'"
    ):
        class_numbers({"train": ["horze"]}, ("horse", "cow"), "x")
