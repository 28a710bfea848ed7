"""Encoders with decoders as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporting.text_exports import require_parity


@pytest.mark.parametrize(
    ("name", "task"),
    [("t5", "sequence-to-sequence"), pytest.param("bart", "sequence-to-sequence", marks=pytest.mark.long)],
)
def test_a_file_gives_pytorchs_answers_at_any_length(name: str, task: str, tmp_path: Path) -> None:
    require_parity(name, task, tmp_path)
