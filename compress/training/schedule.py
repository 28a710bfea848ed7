"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from compress.training.settings import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0.

    It rises linearly over the warm-up and reaches its peak p with the warm-up's last step. With t in [0, 1) the share
    of the remaining steps that is done, it is then p (1 + cos(pi t)) / 2 (cosine; Loshchilov and Hutter 2017, eq. 5
    without restarts), p (1 - t) (linear), p (constant), or p times gamma for each milestone behind it (step).
    """
    warmup_steps = round(recipe.warmup * steps_per_epoch)
    if step < warmup_steps:
        return recipe.peak_learning_rate * (step + 1) / warmup_steps
    rest = recipe.epochs * steps_per_epoch - warmup_steps
    done = (step - warmup_steps) / max(rest, 1)
    match recipe.schedule:
        case "cosine":
            factor = (1 + math.cos(math.pi * done)) / 2
        case "linear":
            factor = 1 - done
        case "step":
            factor = recipe.gamma ** sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
        case "constant":
            factor = 1.0
    return recipe.peak_learning_rate * factor
