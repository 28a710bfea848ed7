"""Running statistics of batch norms, estimated anew for weights that have changed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate(module: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> int:
    """Set each batch norm's running mean and variance to the plain average over batches of inputs; no labels needed.

    Those that do not run, such as norms of a branch that is used in training only, keep what they have.

    Everything else is in evaluation mode meanwhile, so dropout is off; modes and momentum are as before afterwards.

    Args:
        module: Changed in place: only `running_mean`, `running_var` and `num_batches_tracked` of its batch norms.
        batches: Inputs of the network. Best of one size, since each counts the same.

    Returns:
        How many batch norms there are; with none, no batch is read.

    Raises:
        ValueError: no batches were given, though there are batch norms.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return 0
    modes = {part: part.training for part in module.modules()}
    momenta = [norm.momentum for norm in norms]
    known = [{name: tensor.clone() for name, tensor in norm.named_buffers()} for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the cumulative average
        norm.training = True
    count = 0
    try:
        for inputs in batches:
            module(*inputs)
            count += 1
    finally:
        for norm, momentum, before in zip(norms, momenta, known, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and not norm.num_batches_tracked:
                for name, tensor in norm.named_buffers():
                    tensor.copy_(before[name])
        for part, training in modes.items():
            part.training = training
    if not count:
        raise ValueError("batch-norm statistics need at least one batch")
    return len(norms)
