"""Encoders as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporting.text_exports import require_parity


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert", "text-classification"),
        ("bert", "masked-lm"),
        pytest.param("distilbert", "text-classification", marks=pytest.mark.long),
        pytest.param("roberta", "text-classification", marks=pytest.mark.long),
    ],
)
def test_a_file_gives_pytorchs_answers_at_any_length(name: str, task: str, tmp_path: Path) -> None:
    require_parity(name, task, tmp_path)
