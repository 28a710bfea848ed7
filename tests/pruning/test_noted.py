from __future__ import annotations

import math
from pathlib import Path

import pytest

from compress.pruning.noted import Noted


def refused() -> float:
    raise AssertionError("it is known")


def test_what_was_found_is_not_found_again(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "noted.jsonl"
    noted = Noted(place)
    assert not place.parent.exists()
    numbers = {"a": 0.1 + 0.2, "b 1": math.inf, 'a "c" ü': -1e-300}
    for name, number in numbers.items():
        assert noted.get(name, lambda number=number: number) == number  # type: ignore[misc]
    for later in (noted, Noted(place)):
        assert {name: later.get(name, refused) for name in numbers} == numbers


@pytest.mark.parametrize("cut", [2, 9])
def test_a_line_that_was_broken_off_is_found_again(tmp_path: Path, cut: int) -> None:
    place = tmp_path / "noted.jsonl"
    noted = Noted(place)
    noted.get("a", lambda: 1.0)
    noted.get("b", lambda: 2.0)
    place.write_bytes(place.read_bytes()[:-cut])
    again = Noted(place)
    assert again.get("a", refused) == 1.0
    assert again.get("b", lambda: 3.0) == 3.0
    assert Noted(place).get("b", refused) == 3.0 and Noted(place).get("a", refused) == 1.0


def test_a_line_that_lacks_nothing_but_its_break_is_known(tmp_path: Path) -> None:
    place = tmp_path / "noted.jsonl"
    Noted(place).get("a", lambda: 1.0)
    place.write_bytes(place.read_bytes()[:-1])
    again = Noted(place)
    assert again.get("a", refused) == 1.0 and again.get("b", lambda: 2.0) == 2.0
    assert Noted(place).get("a", refused) == 1.0 and Noted(place).get("b", refused) == 2.0


def test_without_a_place_it_is_kept_in_memory() -> None:
    noted = Noted()
    assert noted.get("a", lambda: 1.0) == noted.get("a", refused) == 1.0
