"""The time of a whole network without some units and blocks: its layers by the table, and the rest by two numbers.

Whatever is no layer of the table (additions, norms, activations, moving data, the runtime's own work) costs a little
for each layer, and something for each number that layers write. These two are fitted to whole files that were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from compress.pruning.latency.kinds import Layer, LayerKind
from compress.pruning.latency.table import LatencyTable
from compress.pruning.shape import Kept, Shape, left

Array = npt.NDArray[np.float64]
PULL = np.array([0.3, 0.05, 0.05])
"""How much it weighs against a measured file that the table is right, and that the rest is as likely."""


@dataclass(frozen=True)
class Anchor:
    """A shape whose file was measured: median milliseconds."""

    shape: Shape
    ms: float


class TimeModel:
    """Predicts the milliseconds of a network of another shape, as a sum over layers.

    Args:
        layers: of the whole network.
        table: of the kinds of these layers.
        anchors: measured files; the first is the whole network.
    """

    def __init__(self, layers: Sequence[Layer], table: LatencyTable, anchors: Sequence[Anchor]) -> None:
        self.layers, self.table, self.anchors = tuple(layers), table, tuple(anchors)
        self._known: dict[tuple[LayerKind, int, int], Array] = {}
        rows = np.array([self._features(anchor.shape) for anchor in anchors])
        self.weights = fit(rows, np.array([anchor.ms for anchor in anchors]))

    def predict(self, shape: Shape) -> float:
        """Median milliseconds of a call."""
        return float(self._features(shape) @ self.weights)

    def layer_cost(self, layer: Layer, kept: Kept) -> float:
        """Milliseconds that one layer adds, with its part of the rest."""
        return float(self._of_layer(layer, kept) @ self.weights)

    def layer_ms(self, shape: Shape) -> dict[str, float]:
        """What each layer that is left takes by the table alone, by name."""
        found: dict[str, float] = {}
        for layer in left(self.layers, shape.dropped):
            found[layer.name] = found.get(layer.name, 0.0) + float(self._of_layer(layer, shape.kept)[0])
        return found

    def with_anchor(self, anchor: Anchor) -> TimeModel:
        """The same, knowing one more measured file."""
        return TimeModel(self.layers, self.table, (*self.anchors, anchor))

    def _features(self, shape: Shape) -> Array:
        found: Array = sum(
            (self._of_layer(layer, shape.kept) for layer in left(self.layers, shape.dropped)), start=np.zeros(3)
        )
        return found

    def _of_layer(self, layer: Layer, kept: Kept) -> Array:
        """Milliseconds by the table, 1 for the layer, millions of numbers that it writes."""
        key = (layer.kind, layer.inputs.left(kept), layer.outputs.left(kept))
        if key not in self._known:
            kind, _, outputs = key
            steps = prod(kind.stride or (1,))
            places = prod(kind.size) * steps if kind.operator == "conv_transpose" else prod(kind.size) / steps
            written = outputs * places * self.table.batch / 1e6
            self._known[key] = np.array([self.table.microseconds(*key) / 1000, 1.0, written])
        return self._known[key]


def fit(features: Array, ms: Array) -> Array:
    """Weights, none negative, of the least squared relative error.

    Args:
        features: (files, 3): milliseconds by the table, number of layers, millions of numbers that they write.
        ms: (files,), measured; the first file is the whole network.

    What few files leave open is decided by a pull to what is likely: the table is right, and the rest of the whole
    network's time is due to its layers' number and to what they write in equal parts.

    Returns:
        (3,): a factor, milliseconds for each layer, milliseconds for each million of numbers.
    """
    rest = max(float(ms[0] - features[0, 0]), 0.0) / 2
    likely = np.array([1.0, rest / features[0, 1], rest / max(float(features[0, 2]), 1e-12)])
    whole = features[0] / ms[0]
    rows = np.vstack([features / ms[:, None], np.diag(PULL * whole)])
    wanted = np.concatenate([np.ones(len(ms)), PULL * likely * whole])
    weights: Array = nnls(rows, wanted)[0]
    return weights
