"""One step by several processes: the same gradients, buffers and loss in each as one process would have.

Gradients travel as one flat sum per step, in one order whatever came before, so that a resumed run adds the same
numbers in the same order (DistributedDataParallel regroups its buckets after the first step).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its sum over all processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    for dtype in {gradient.dtype for gradient in gradients}:
        same = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in same])
        distributed.all_reduce(flat)
        _copy_back(flat, same)


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
