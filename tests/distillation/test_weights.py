from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from compress.distillation.weights import Ramp, is_nothing, weight_at


@pytest.mark.parametrize(
    ("shape", "quarter", "middle"),
    [("linear", 1.5, 2.0), ("cosine", 1 + (1 - math.cos(math.pi / 4)), 2.0), ("step", 1.0, 1.0)],
)
def test_ramps_go_from_the_first_to_the_last_value(shape: Any, quarter: float, middle: float) -> None:
    ramp = Ramp(first=1, last=3, begin=0.2, end=0.6, shape=shape)
    assert [weight_at(ramp, place) for place in (0.0, 0.2)] == [1, 1]
    assert weight_at(ramp, 0.3) == pytest.approx(quarter)
    assert weight_at(ramp, 0.4) == pytest.approx(middle)
    assert [weight_at(ramp, place) for place in (0.6, 0.9, 1.0)] == [3, 3, 3]


def test_a_step_is_where_it_ends() -> None:
    phase = Ramp(first=1, last=0, begin=0.5, end=0.5, shape="step")
    assert [weight_at(phase, place) for place in (0.0, 0.499, 0.5, 1.0)] == [1, 1, 0, 0]


def test_numbers_are_constant() -> None:
    assert [weight_at(0.3, place) for place in (0.0, 0.5, 1.0)] == [0.3] * 3


def test_a_ramp_may_not_end_before_it_begins() -> None:
    with pytest.raises(ValidationError, match=r"end 0.1 lies before begin 0.5"):
        Ramp(first=1, last=0, begin=0.5, end=0.1)
    with pytest.raises(ValidationError):
        Ramp(first=-1, last=0)


def test_a_weight_of_nothing_is_known() -> None:
    assert is_nothing(0.0)
    assert is_nothing(Ramp(first=0, last=0))
    assert is_nothing(Ramp(first=1, last=0, begin=0, end=0))
    assert not is_nothing(Ramp(first=0, last=0.1))
    assert not is_nothing(Ramp(first=1, last=0))
