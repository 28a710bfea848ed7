"""The optimizers that a recipe can name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from compress.training.settings import Recipe


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters that want gradients.

    Parameters with one axis or none (biases, scales of norms, learned quantization scales) are not decayed unless the
    recipe says so. AdamW is the fused one (one pass over the weights, on the CPU and on GPUs); fused SGD fails where
    a parameter gets its first gradient later than others, so SGD works on lists of tensors instead.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    flat = [] if recipe.decay_norm_and_bias else [p for p in wanted if p.ndim < 2]
    matrices = [p for p in wanted if recipe.decay_norm_and_bias or p.ndim >= 2]
    groups = [
        {"params": group, "weight_decay": decay} for group, decay in ((matrices, recipe.decay), (flat, 0.0)) if group
    ]
    rate = recipe.peak_learning_rate
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov, foreach=True)
    fused = all(p.device.type in ("cpu", "cuda") for p in wanted)
    return torch.optim.AdamW(groups, lr=rate, betas=(recipe.momentum, 0.999), fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set it for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
