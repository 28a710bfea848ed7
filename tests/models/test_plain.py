from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from compress.models.plain import NotPlainError, alike, from_json, to_json


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.5,
        "text",
        (1, (2.0, "a")),
        [1, (2,)],
        {1: "a", "b": (2, None)},
        {"tuple": [1]},
        torch.float16,
        float("inf"),
        {},
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    back = from_json(json.loads(json.dumps(to_json(value), sort_keys=True)))
    assert back == value
    assert type(back) is type(value)


def test_not_a_number_comes_back() -> None:
    assert str(from_json(to_json(float("nan")))) == "nan"


def test_numbers_of_numpy_and_sizes_become_plain() -> None:
    assert from_json(to_json((np.int64(3), np.float32(0.5), torch.Size([1, 2])))) == (3, 0.5, (1, 2))


@pytest.mark.parametrize("value", [torch.zeros(1), object(), {1, 2}, [print]])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(NotPlainError):
        to_json(value)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (torch.ones(2), torch.ones(2), True),
        (torch.ones(2), torch.zeros(2), False),
        ([torch.ones(2), print], [torch.ones(2), print], True),
        ([torch.ones(2)], [torch.zeros(2)], False),
        (torch.relu, torch.tanh, False),
        ({"a": torch.ones(1)}, {"b": torch.ones(1)}, False),
        (torch.ones(1), [1], False),
        (object(), object(), True),
        ({1, 2}, {1, 2}, True),
    ],
)
def test_other_values_are_compared(first: Any, second: Any, expected: bool) -> None:
    assert alike(first, second) is expected
