"""A module's tensors by name, and back, exactly.

`nn.Module.load_state_dict` is not used: it leaves out non-persistent buffers, and observers' loading hooks reset them
where safetensors has dropped `_metadata`, or refuse another shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers (non-persistent ones too) by name; what is shared appears once, under its first name."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's tensors, on its device."""
    return {name: tensor.clone() for name, tensor in tensors_of(module).items()}


@torch.no_grad()
def restore(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a module the tensors that `tensors_of` or `copy_of` took from one like it, to the last bit.

    Buffers may have changed their shape since the module was made (observers do at their first batch).

    Raises:
        ValueError: the module is another one.
    """
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    missing = sorted((parameters.keys() | buffers.keys()) - tensors.keys())
    if missing:
        raise ValueError(f"no tensors for {', '.join(missing[:5])}")
    for name, tensor in tensors.items():
        if name in parameters:
            if parameters[name].shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(parameters[name].shape)}, not {tuple(tensor.shape)}")
            parameters[name].copy_(tensor)
        else:
            _restore_buffer(module, name, buffers.get(name), tensor)


def _restore_buffer(module: nn.Module, name: str, buffer: Tensor | None, tensor: Tensor) -> None:
    if buffer is not None and buffer.dtype == tensor.dtype:
        if buffer.shape != tensor.shape:
            buffer.resize_(tensor.shape)
        buffer.copy_(tensor)
        return
    path, _, own_name = name.rpartition(".")
    owner = module.get_submodule(path)
    if own_name not in owner._buffers:
        raise ValueError(f"there is no buffer {name}")
    device = next((t.device for t in tensors_of(module).values()), tensor.device)
    owner._buffers[own_name] = tensor.to(device, copy=True)
