"""PyTorch itself, as a runtime: the answers that an exported file is held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from compress.errors import StageError
from compress.runtimes.runtime import Arrays


class TorchEager:
    """A module, run as it is on the device where its parameters are, in eval mode and without gradients.

    `inputs` are the names of the arguments of its `forward`, in order; a module that gives one tensor names it by the
    first of `outputs`. The module's training flag is put back after each call.
    """

    def __init__(
        self, module: nn.Module, inputs: Sequence[str] = ("input",), outputs: Sequence[str] = ("output",)
    ) -> None:
        self.module, self.inputs, self.outputs = module, tuple(inputs), tuple(outputs)

    def __call__(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for one batch. Raises StageError if the module fails on it or gives another number of tensors."""
        first = next(self.module.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
        modes = {module: module.training for module in self.module.modules()}
        self.module.eval()
        try:
            with torch.inference_mode():
                given = self.module(*(torch.from_numpy(feeds[name]).to(device) for name in self.inputs))
        except (RuntimeError, TypeError, ValueError) as error:
            shapes = ", ".join(f"{name} {list(feeds[name].shape)}" for name in self.inputs)
            raise StageError(f"the model fails when run on {shapes}: {error}") from error
        finally:
            for module, training in modes.items():
                module.training = training
        tensors = [given] if isinstance(given, torch.Tensor) else list(given)
        if len(tensors) != len(self.outputs):
            raise StageError(
                f"the model gave {len(tensors)} outputs, but {len(self.outputs)} are named: {self.outputs}"
            )
        return {name: tensor.cpu().numpy() for name, tensor in zip(self.outputs, tensors, strict=True)}
