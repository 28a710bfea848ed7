"""What a network computes, without its numbers: two of one structure take the same time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from compress.modes import evaluating


class _Digest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operator that runs: its name, the sizes of its tensors, and its other arguments."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.hash = hashlib.sha256()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for leaf in (str(func), *pytree.tree_leaves((args, kwargs, output))):
            said = f"{leaf.dtype}{tuple(leaf.shape)}" if isinstance(leaf, Tensor) else repr(leaf)
            self.hash.update(said.encode() + b"\n")
        return output


def structure(module: nn.Module, example_inputs: Sequence[Tensor]) -> str:
    """A digest of the operators that one example runs through, with their sizes; the same for other weights."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    example = [x[:1].to(device) for x in example_inputs]
    with evaluating(module), torch.no_grad(), _Digest() as digest:
        module(*example)
    return str(digest.hash.hexdigest())
