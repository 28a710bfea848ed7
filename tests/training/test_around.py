from __future__ import annotations

from typing import Any

from compress.training.around import Around
from compress.training.method import Method


def test_everything_that_a_method_does_is_passed_on() -> None:
    def public(kind: type[Any]) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Around) == public(Method)
