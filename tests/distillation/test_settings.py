from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from compress.distillation.settings import DistillationRecipe, LossTerm


@pytest.mark.parametrize(
    ("written", "name", "settings"),
    [
        ("kl", "kl", {"temperature": 4.0, "weight": 1.0}),
        ({"kl": None}, "kl", {"temperature": 4.0, "weight": 1.0}),
        ({"kl": {"temperature": 2, "weight": 0.9}}, "kl", {"temperature": 2.0, "weight": 0.9}),
        ({"cross_entropy": {"weight": 0.1}}, "cross_entropy", {"weight": 0.1, "label_smoothing": 0.0}),
        ({"mse": {}}, "mse", {"weight": 1.0}),
        ({"task": {"weight": 2}}, "task", {"weight": 2.0}),
    ],
)
def test_terms_are_read_in_every_form(written: Any, name: str, settings: dict[str, float]) -> None:
    term = LossTerm.model_validate(written)
    assert (term.name, term.settings.model_dump()) == (name, settings)
    assert LossTerm.model_validate(term.model_dump(mode="json")) == term


@pytest.mark.parametrize(
    "written",
    [
        "hinton",
        {},
        {"kl": {}, "mse": {}},
        {"kl": {"temperature": 0}},
        {"kl": {"weight": -1}},
        {"kl": {"alpha": 1}},
        {"cross_entropy": {"label_smoothing": 1}},
    ],
)
def test_wrong_terms_are_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        LossTerm.model_validate(written)


def test_losses_must_teach_something() -> None:
    nothing = DistillationRecipe.model_validate({"losses": [{"kl": {"weight": 0}}]})
    assert [where for where, _ in nothing.loss_faults()] == ["losses"]
    assert DistillationRecipe().loss_faults() == []
    with pytest.raises(ValidationError):
        DistillationRecipe(losses=())
