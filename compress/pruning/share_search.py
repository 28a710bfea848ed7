"""Pruning to a share of the arithmetic or of the parameters, with whole blocks among what may go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.cost_search import Search
from compress.pruning.importance.measures import Given
from compress.pruning.latency.kinds import Kept, Layer
from compress.pruning.latency.model import Shape, left
from compress.pruning.prunable import Prunable
from compress.pruning.prune import PruneLog
from compress.pruning.settings import Pruning


class Counted:
    """The share of a network's `macs` or `parameters` that shapes keep, as a sum over its layers."""

    def __init__(self, layers: Sequence[Layer], whole: Shape, measure: str) -> None:
        self.layers, self.count = tuple(layers), COUNTS[measure]
        self.total = sum(self.count(layer, whole.kept) for layer in self.layers)

    def predict(self, shape: Shape) -> float:
        """The share that is left."""
        return sum(self.layer_cost(layer, shape.kept) for layer in left(self.layers, shape.dropped))

    def layer_cost(self, layer: Layer, kept: Kept) -> float:
        """The share that one layer is."""
        return self.count(layer, kept) / self.total


def layer_macs(layer: Layer, kept: Kept) -> float:
    """Multiply-accumulates of one example in a layer; in attention those of its two products."""
    kind, inputs, outputs = layer.kind, layer.inputs.left(kept), layer.outputs.left(kept)
    if kind.operator == "attention":
        return 2.0 * kind.size[0] ** 2 * outputs
    if kind.operator == "linear":
        return float(kind.size[0] * inputs * outputs)
    places = kind.size if kind.operator == "conv_transpose" else _output_size(layer)
    return float(prod(places)) * layer_parameters(layer, kept)


def layer_parameters(layer: Layer, kept: Kept) -> float:
    """Numbers in a layer's weight."""
    kind, inputs, outputs = layer.kind, layer.inputs.left(kept), layer.outputs.left(kept)
    if kind.operator == "attention":
        return 0.0
    groups = inputs if kind.operator == "depthwise" else kind.groups
    return float(prod(kind.kernel) * inputs * outputs / max(groups, 1))


COUNTS: dict[str, Callable[[Layer, Kept], float]] = {"macs": layer_macs, "parameters": layer_parameters}


def _output_size(layer: Layer) -> list[int]:
    kind = layer.kind
    each = zip(kind.size, kind.kernel, kind.stride, kind.padding, kind.dilation, strict=True)
    return [
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, pad, dilation in each
    ]


def prune_with_blocks(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    settings: Pruning,
    given: Given,
    recall: Callable[[Callable[[], dict[str, Any]]], dict[str, Any]],
) -> PruneLog:
    """Remove channels and blocks from `module`, in place, until the share of `settings.keep` is left, or a little less.

    Arguments as those of `compress.pruning.reach.prune_to_time`.

    Raises:
        UsageError: the share cannot be reached; as `prune_module`.
        StageError: the loss on training examples is not a number.
    """
    network = Prunable.find(module, example_inputs, settings, given.seed)
    measure, wanted = settings.share.measure, settings.share.share
    search = Search(network, settings)
    counted = Counted(network.layers(), search.whole, measure)
    least = counted.predict(search.floor)
    if least > wanted:
        raise UsageError(
            f"prune.keep.{measure}: a share of {wanted:g} cannot be reached; the least that `minimum_share` and "
            f"`round_to` leave is {least:.3f}, blocks gone. Ask for more, or lower these floors"
        )

    def choose() -> dict[str, Any]:
        removed, shape = search.choose(counted, wanted, search.look(counted, wanted, given))
        return {"removed": removed, "dropped": sorted(shape.dropped)}

    choice = recall(choose)
    done = network.without(choice["removed"], given.seed, choice["dropped"])
    return PruneLog(measure=measure, asked=wanted, reached=done.share(measure), fixed=network.fixed, **vars(done))
