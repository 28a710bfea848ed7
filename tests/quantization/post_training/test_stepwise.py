from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto

from compress.exporting.graph import Graph
from compress.quantization.post_training.static import grids, observe
from compress.quantization.post_training.stepwise import Stepwise
from compress.quantization.post_training.weights import quantize_weights
from compress.quantization.template import insert, template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run

X = floats(12, 3, 8, 8, seed=9)


def residual() -> ModelProto:
    """Two convolutions and a sum with what the first one reads, then two that read the same tensor."""
    nodes = [
        node("Conv", "x w1", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"),
        node("Conv", "r w2", "b", pads=[1, 1, 1, 1]),
        node("Add", "b r", "s"),
        node("Conv", "s w3", "c"),
        node("Conv", "s w4", "d"),
        node("Add", "c d", "y"),
    ]
    arrays = {
        "w1": floats(4, 3, 3, 3, scale=0.3), "w2": floats(4, 4, 3, 3, seed=1, scale=0.3),
        "w3": floats(5, 4, 3, 3, seed=2, scale=0.3), "w4": floats(5, 4, 3, 3, seed=3, scale=0.3),
    }  # fmt: skip
    return graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"y": None})


def canonical() -> tuple[ModelProto, dict[str, NodeProto]]:
    template = template_of(residual())
    grid = grids(template, observe(template, lambda: batches_of("x", X)), "minmax")
    proto = insert(template, grid, quantize_weights(template))
    return proto, {item.name: item for item in proto.graph.node}


class Counting(Stepwise):
    """Counts how often each operator is put into a part."""

    computed: Counter[str]

    def _part(self, nodes: Sequence[NodeProto], fed: Sequence[str], outputs: Sequence[str]) -> ModelProto:
        self.computed.update(item.name for item in nodes if item.op_type != "DequantizeLinear")
        return super()._part(nodes, fed, outputs)


def test_each_tensor_is_what_the_whole_graph_computes_and_each_operator_is_computed_once() -> None:
    proto, nodes = canonical()
    wanted = [nodes[name].input[0] for name in "abcd"]
    feeds = batches_of("x", X, 5)
    steps = Counting(proto, feeds, wanted)
    steps.computed = Counter()
    for name in wanted:
        found = np.concatenate(list(steps(name)))
        np.testing.assert_allclose(found, run(proto, name, x=X)[0], atol=1e-6)
    assert set(steps.computed.values()) == {1}
    assert not {"c", "d"} & steps.computed.keys()  # nothing that is wanted depends on them
    assert all(not live for live in steps.live)


def test_weights_that_change_are_those_that_later_operators_have() -> None:
    proto, nodes = canonical()
    steps = Stepwise(proto, batches_of("x", X, 5), [nodes["a"].input[0], nodes["c"].input[0]])
    list(steps(nodes["a"].input[0]))
    integers = steps.writers[nodes["b"].input[1]].input[0]
    changed = np.roll(steps.arrays[integers], 1, axis=0)
    steps.arrays[integers] = changed
    found = np.concatenate(list(steps(nodes["c"].input[0])))
    whole = ModelProto()
    whole.CopyFrom(proto)
    before = run(whole, nodes["c"].input[0], x=X)[0]
    values = Graph(whole.graph)
    values.arrays[integers] = changed
    values.write()
    np.testing.assert_allclose(found, run(whole, nodes["c"].input[0], x=X)[0], atol=1e-6)
    assert np.abs(found - before).max() > 0.1


def test_between_layers_integers_are_kept_and_only_what_is_read_again() -> None:
    proto, nodes = canonical()
    wanted = [nodes[name].input[0] for name in "abc"]
    steps = Stepwise(proto, batches_of("x", X), wanted)
    list(steps(wanted[0]))
    list(steps(wanted[1]))
    (live,) = steps.live
    assert [array.dtype for array in live.values()] == [np.dtype(np.int8)]


def test_a_graphs_input_is_given_as_it_is() -> None:
    steps = Stepwise(residual(), batches_of("x", X), ["x", "x", "r"])
    for _ in range(2):
        (found,) = steps("x")
        assert np.shares_memory(found, X)
    (found,) = steps("r")
    np.testing.assert_allclose(found, run(residual(), "r", x=X)[0], atol=1e-6)
