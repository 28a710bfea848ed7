from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compress.distillation.caching import Costs, decide
from compress.distillation.teacher_settings import Cache
from compress.errors import UsageError

PLAIN = Costs(teacher_macs=100, student_macs=10, examples=1000, epochs=40, answer_bytes=20, augmented=False)
AUGMENTED = replace(PLAIN, augmented=True)


@pytest.mark.parametrize(
    ("choice", "costs", "views", "says"),
    [
        # 100 * 39 of 130 * 40 are saved
        ("auto", PLAIN, 1, "1 view, 20,000 bytes, saves 75% of the arithmetic"),
        ("auto", AUGMENTED, 16, "16 views, 320,000 bytes, saves 46% of the arithmetic"),
        ("auto", replace(AUGMENTED, epochs=32), 16, "16 views"),
        ("auto", replace(AUGMENTED, epochs=31), 0, "too little to give up fresh answers"),
        ("auto", replace(PLAIN, teacher_macs=8), 1, "saves 21%"),
        ("auto", replace(PLAIN, teacher_macs=7), 0, "saves 18%"),
        ("auto", replace(PLAIN, epochs=1), 0, "saves 0%"),
        ("auto", replace(PLAIN, answer_bytes=2**30), 0, "but only 8,589,934,592 bytes are allowed"),
        (Cache(), AUGMENTED, 16, "16 views"),
        (Cache(max_bytes=100), PLAIN, 0, "but only 100 bytes are allowed"),
        (Cache(views=4), AUGMENTED, 4, "4 views, 80,000 bytes"),
        (Cache(views=4), PLAIN, 1, "1 view,"),
        (Cache(views=4), replace(AUGMENTED, epochs=3), 3, "3 views"),
        (Cache(views=4), replace(AUGMENTED, teacher_macs=1), 4, "4 views"),
    ],
)  # fmt: skip
def test_answers_are_kept_where_that_saves_enough(choice: Any, costs: Costs, views: int, says: str) -> None:
    decision = decide(choice, costs)
    assert (decision.views, says in decision.reason) == (views, True), decision.reason


def test_views_that_were_asked_for_and_do_not_fit_are_refused() -> None:
    assert decide(Cache(views=4, max_bytes=80_000), AUGMENTED).views == 4
    with pytest.raises(UsageError, match=r"4 views take 80,000 bytes, and only 79,999 are allowed: raise `max_bytes`"):
        decide(Cache(views=4, max_bytes=79_999), AUGMENTED)
