from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from compress.training.settings import Recipe


def test_unset_rates_follow_the_optimizer() -> None:
    assert (Recipe().peak_learning_rate, Recipe().decay) == (0.003, 0.01)
    assert (Recipe(optimizer="sgd").peak_learning_rate, Recipe(optimizer="sgd").decay) == (0.05, 5e-4)
    assert Recipe(optimizer="sgd", learning_rate=0.3, weight_decay=0).peak_learning_rate == 0.3
    assert Recipe(weight_decay=0).decay == 0


@pytest.mark.parametrize(("epochs", "warmup"), [(2, 0.2), (10, 1.0), (100, 1.0)])
def test_unset_warmup_is_at_most_a_tenth(epochs: int, warmup: float) -> None:
    assert Recipe(epochs=epochs).warmup == warmup


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"optimizer": "sgdd"},
        {"learning_rate": 0},
        {"momentum": 1},
        {"schedule": "cosin"},
        {"gradient_clip": 0},
        {"early_stopping": 0},
        {"keep": "first"},
        {"precision": "int8"},
        {"gamma": 0},
        {"epoch": 3},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(wrong)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"schedule": "step"}, "milestones"),
        ({"milestones": (3,)}, "milestones"),
        ({"schedule": "step", "milestones": (5, 3)}, "milestones"),
        ({"schedule": "step", "milestones": (25,)}, "milestones"),
        ({"warmup_epochs": 20}, "warmup_epochs"),
    ],
)
def test_combinations_without_sense_are_found(settings: dict[str, Any], key: str) -> None:
    assert [where for where, _ in Recipe.model_validate(settings).recipe_faults()] == [key]


def test_defaults_make_sense() -> None:
    assert Recipe().recipe_faults() == []
