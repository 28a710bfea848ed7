"""Some tensors of a traced network in torch, by the names of its nodes: the counterpart of `onnx_values`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from compress.exporting.divergence_search import Values
from compress.exporting.graph import Array
from compress.quantization.weighted import Weighted

WEIGHT, TRANSPOSED, BIAS = "weight of ", "transposed weight of ", "bias of "


class TorchValues:
    """Tensors of a traced network by the names of its nodes; nothing behind the last one asked for is computed."""

    def __init__(self, model: GraphModule, inputs: Sequence[Tensor]) -> None:
        self.model, self.inputs = model, inputs
        self.layers = {str(node.target): node for node in model.graph.nodes if node.op == "call_module"}

    def __call__(self, names: Sequence[str]) -> Values:
        """Floats by name; `WEIGHT` and `BIAS` before the name of a layer's node give its constants, as it uses them."""
        found = {name: constant for name in names if (constant := self._constant(name)) is not None}
        found |= self._computed({name for name in names if name not in found}, _floats)
        return {name: found[name] for name in names}

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of tensors, in one pass that keeps none of them."""
        found = {name: constant.shape for name in names if (constant := self._constant(name)) is not None}
        computed = self._computed({name for name in names if name not in found}, lambda tensor: tuple(tensor.shape))
        return found | computed

    def _computed(self, asked: set[str], keep: Callable[[Tensor], Any]) -> dict[str, Any]:
        """What `keep` makes of those tensors."""
        run = _Run(self.model, asked, keep)
        with torch.no_grad(), contextlib.suppress(_EnoughError):
            if asked:
                run.run(*self.inputs)
        return run.found

    def _constant(self, name: str) -> Array | None:
        for start in (WEIGHT, TRANSPOSED, BIAS):
            if name.startswith(start):
                layer = self.model.get_submodule(name.removeprefix(start))
                assert isinstance(layer, Weighted)
                weight, bias = constants(layer)
                return bias if start == BIAS else weight.T if start == TRANSPOSED else weight
        return None


class _EnoughError(Exception):
    """All that was asked for is computed."""


class _Run(Interpreter):
    def __init__(self, model: GraphModule, asked: set[str], keep: Callable[[Tensor], Any]) -> None:
        super().__init__(model)
        self.asked, self.keep = asked, keep
        self.found: dict[str, Any] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.name in self.asked:
            self.found[n.name] = self.keep(result)
            if len(self.found) == len(self.asked):
                raise _EnoughError
        return result


def _floats(tensor: Tensor) -> Array:
    return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()


def constants(layer: Weighted) -> tuple[Array, Array | None]:
    """Weights on their grid, and the bias as it is used, the norm folded in."""
    with torch.no_grad():
        bias = layer.folded()[1]
        integers, scale = layer.integers()
        weight = integers * scale.reshape(-1, *[1] * (integers.dim() - 1))
    return weight.numpy(), None if bias is None else bias.numpy()
