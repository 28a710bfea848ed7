from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.training.schedule import learning_rate
from compress.training.settings import Recipe


def rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(recipe.epochs * steps_per_epoch)]


def torch_rates(recipe: Recipe, scheduler: Any, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.peak_learning_rate)
    schedule = scheduler(optimizer)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_is_torchs() -> None:
    recipe = Recipe(epochs=4, learning_rate=0.1, warmup_epochs=0)
    expected = torch_rates(recipe, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40), 40)
    assert rates(recipe, 10) == pytest.approx(expected)


def test_steps_are_torchs() -> None:
    recipe = Recipe(epochs=4, learning_rate=0.1, warmup_epochs=0, schedule="step", milestones=(1, 3), gamma=0.5)
    expected = torch_rates(recipe, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [10, 30], 0.5), 40)
    assert rates(recipe, 10) == pytest.approx(expected)


def test_linear_falls_by_equal_steps() -> None:
    recipe = Recipe(epochs=2, learning_rate=1, warmup_epochs=0, schedule="linear")
    assert rates(recipe, 4) == pytest.approx([1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_warmup_rises_to_the_peak_and_goes_on_from_there(schedule: Any) -> None:
    found = rates(Recipe(epochs=4, learning_rate=0.1, warmup_epochs=0.5, schedule=schedule), 10)
    assert found[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert min(found) > 0
