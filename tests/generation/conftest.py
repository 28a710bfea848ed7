"""Questions and answers of a few words, and networks of a few thousand weights that could learn them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from compress.data.settings import DataSettings
from tests.generation.helpers import question_settings


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def questions(tmp_path: Path) -> DataSettings:
    """30 questions with answers and rationales, 24 of them to train on."""
    return question_settings(tmp_path)
