from __future__ import annotations

from typing import Any

import pytest

from compress.report.int8_words import loss_heading, loss_words, rung_lines
from compress.report.reading import read_rows


@pytest.mark.parametrize(
    ("metric", "loss", "heading", "words"),
    [
        ("accuracy", 0.0123, "loss", "which loses 1.23 points of accuracy"),
        ("accuracy", -0.01, "loss", "which loses nothing of accuracy"),
        ("mse", 0.00512, "loss", "which loses 0.00512 of MSE"),
        ("agreement", 0.005, "answers changed", "which changes 0.50 % of the answers"),
        ("relative_error", 0.00123, "relative squared error", "with a relative squared error of 0.00123"),
        ("accuracy", None, "loss", "whose loss is not known"),
    ],
)
def test_a_loss_is_said_in_the_words_of_what_is_judged(metric: str, loss: Any, heading: str, words: str) -> None:
    assert (loss_heading(metric), loss_words(metric, loss)) == (heading, words)


def test_a_rung_is_a_line(variants: dict[str, dict[str, Any]]) -> None:
    quantized = read_rows(variants["int8 climbed"]).models[3].quantized
    assert quantized is not None
    assert rung_lines("accuracy", quantized)[2] == (
        "int8, the most sensitive operators in float: 98.40 %, loss −0.10 points, 9.0 s (kept)"
    )
