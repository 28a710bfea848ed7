"""What a network costs on paper: parameters, multiply-accumulates, bytes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compress.errors import UsageError
from compress.modes import evaluating


def count_parameters(module: nn.Module) -> int:
    """How many numbers training changes or could change; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of convolutions, linear layers and matrix products for one example.

    The first example of the batch `example_inputs` goes through the network in evaluation mode, which is left as it
    was.

    Raises:
        UsageError: the network cannot take these inputs.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    try:
        with evaluating(module), torch.no_grad(), _plain_kernels(module), counter:
            module(*(x[:1].to(device) for x in example_inputs))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shapes = ", ".join(str((1, *x.shape[1:])) for x in example_inputs)
        raise UsageError(f"the network cannot take inputs of shape {shapes}: {error}") from error
    return int(counter.get_total_flops()) // 2


def size_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once."""
    tensors = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@contextmanager
def _plain_kernels(module: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers as products that the counter knows; it does not know their fused CPU kernels."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(part, nn.RNNBase) for part in module.modules()):
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="TF32 acceleration")  # said wherever there is no Intel GPU
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield
