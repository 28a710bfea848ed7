"""What a pipeline file says for the model card."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.config import read_pipeline
from compress.errors import UsageError
from compress.pipeline import Card
from compress.report.facts import settings_of

PIPELINE = "data: digits\nmodels: {net: {zoo: resnet8, width: 0.25}}\nstages: [{train: {epochs: 1}}]\n"


def read(tmp_path: Path, card: str) -> Card:
    path = tmp_path / "p.yaml"
    path.write_text(PIPELINE + card)
    return read_pipeline(path).card


def test_a_pipeline_tells_what_only_a_person_knows(tmp_path: Path) -> None:
    card = read(tmp_path, "card: {licence: ' Apache-2.0 ', intended_use: see https://example.org/use}\n")
    assert card.model_dump(exclude_none=True) == {
        "licence": "Apache-2.0",
        "intended_use": "see https://example.org/use",
    }
    assert "card" not in settings_of(read_pipeline(tmp_path / "p.yaml"))


@pytest.mark.parametrize("nothing", ["", "card:\n", "card: {}\n", "card: {licence: null}\n"])
def test_it_may_be_left_out(tmp_path: Path, nothing: str) -> None:
    assert read(tmp_path, nothing) == Card()


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("card: {license: MIT}\n", "card.license: unknown key (did you mean 'licence'?)"),
        ("card: {licence: ''}\n", "card.licence"),
        ("card: {risks: 3}\n", "card.risks"),
        ("card: none\n", "card"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, card: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, card)
    assert said in str(error.value)
