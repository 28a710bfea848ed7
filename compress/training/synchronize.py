"""One step by several processes: gradients are summed, buffers and losses averaged by the examples of each.

All processes end the step with the same weights. They are those that one process would have, up to rounding, where the
loss is a mean over examples. They differ a little from these where the loss is another mean or looks across the batch:
over tokens of which the processes have unequal numbers, over relations between examples, or behind batch norms.

Gradients travel as one flat sum per step, in one order whatever came before, so that a resumed run adds the same
numbers in the same order (DistributedDataParallel regroups its buckets after the first step).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed, nn


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its sum over all processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        same = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in same])
        distributed.all_reduce(flat)
        _copy_back(flat, same)


def averaged_buffers(*modules: nn.Module) -> list[Tensor]:
    """The buffers of the modules and of all that they hold, each once, for `average_buffers`.

    A module with the attribute `averaged = False` keeps its own buffers out of it (not those of its parts): such as are
    the same in all processes by other means.
    """
    parts = [part for module in modules for part in module.modules() if getattr(part, "averaged", True)]
    return list({id(buffer): buffer for part in parts for buffer in part.buffers(recurse=False)}.values())


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (first axis) of all processes, rank by rank, in each of them; without gradients. All must call it.

    The numbers of rows may differ. Where only one process trains, the rows as they are.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows.detach()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


@torch.no_grad()
def average_buffers(buffers: Sequence[Tensor], loss: Tensor, examples: int) -> Tensor:
    """Replace each buffer by its mean over all processes, weighted by their shares of the batch; returns the mean loss.

    PyTorch has no synchronized batch norm for CPUs or exported graphs. Here each process normalizes with its own share
    and the running statistics are averaged after every step: the mean is that of the whole batch, the variance lacks
    the (small) variance between the shares' means. Observers' ranges are averaged likewise. Sums are made in fp64, so
    that what is equal in all processes (frozen statistics, counters, switches) stays as it is to the last bit.

    Args:
        buffers: those of the modules in training, of any dtype; changed in place.
        loss: this process's mean loss, a scalar.
        examples: this process's share of the batch.
    """
    header = torch.tensor([float(examples), 0.0], dtype=torch.float64, device=loss.device)
    header[1] = loss.detach().double() * examples
    flat = torch.cat([header, *(buffer.reshape(-1).double() * examples for buffer in buffers)])
    distributed.all_reduce(flat)
    flat /= flat[0].clone()
    _copy_back(flat[2:], buffers)
    return flat[1]


def _copy_back(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    for piece, tensor in zip(torch.split(flat, [t.numel() for t in tensors]), tensors, strict=True):
        rounded = piece if tensor.dtype.is_floating_point else piece.round()
        tensor.copy_(rounded.view_as(tensor))
