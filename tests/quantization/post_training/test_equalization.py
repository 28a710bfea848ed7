from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from compress.exporting.graph import Graph
from compress.quantization.post_training.equalization import equalize, pairs, scales
from compress.quantization.template import template_of
from tests.quantization.graphs import floats, graph, node, run

X = floats(4, 3, 8, 8, seed=9)
WIDE = np.logspace(-2, 2, 8).astype(np.float32)
"""Channels from a hundredth to a hundred."""


def network(between: list[NodeProto], reads: str, **second: Any) -> ModelProto:
    """A convolution of 3 to 8 channels of very different size, what lies between, and a second one."""
    groups = int(str(second.get("group", 1)))
    arrays = {
        "w": floats(8, 3, 3, 3) * WIDE.reshape(8, 1, 1, 1),
        "b": floats(8, seed=1) * WIDE,
        "v": floats(4 * groups, 8 // groups, 3, 3, seed=2) / WIDE.reshape(-1, 1, 1)[: 8 // groups],
        "shift": floats(1),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), *between, node("Conv", f"{reads} v", "y", **second)]
    used = {name for item in nodes for name in item.input}
    return graph(nodes, {k: v for k, v in arrays.items() if k in used}, {"x": ["batch", 3, 8, 8]}, {"y": None})


CHAINS: dict[str, ModelProto] = {
    "directly": network([], "c"),
    "relu": network([node("Relu", "c", "r")], "r"),
    "grouped": network([node("Relu", "c", "r")], "r", group=2),
    "depthwise": network([node("Relu", "c", "r")], "r", group=8),
    "pools and pads": network(
        [
            node("Pad", "c pads", "p"),
            node("MaxPool", "p", "m", kernel_shape=[2, 2], strides=[2, 2]),
            node("Resize", "m - scales", "u", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
            node("AveragePool", "u", "a", kernel_shape=[2, 2]),
        ],
        "a",
    ),
}


def ranges(proto: ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """The greatest weight that writes, and that reads, each channel in the middle."""
    arrays = Graph(proto.graph).arrays
    groups = next((a.i for n in proto.graph.node if n.output[0] == "y" for a in n.attribute if a.name == "group"), 1)
    writes = np.abs(arrays["w"]).max((1, 2, 3))
    v = arrays["v"]
    reads = np.concatenate([np.abs(part).max((0, 2, 3)) for part in np.split(v, groups)])
    return writes, reads


@pytest.mark.parametrize("name", CHAINS)
def test_outputs_stay_and_ranges_become_equal(name: str) -> None:
    template = template_of(CHAINS[name])
    assert len(pairs(template)) == 1
    found = equalize(template)
    (exact,), (same,) = run(template.proto, x=X), run(found.proto, x=X)
    assert np.abs(same - exact).max() <= 1e-4 * np.abs(exact).max()
    writes, reads = ranges(found.proto)
    assert np.allclose(writes, reads, rtol=1e-3)
    before = np.array(ranges(template.proto))
    assert np.allclose(writes, np.sqrt(before[0] * before[1]), rtol=1e-3)  # equation 11's product is kept


def test_transposed_convolutions_take_part_on_both_sides() -> None:
    arrays = {
        "w": floats(8, 3, 3, 3) * WIDE.reshape(8, 1, 1, 1),
        "b": floats(8, seed=1),
        "d": floats(8, seed=4),
        "t": floats(8, 8, 2, 2, seed=2) * WIDE.reshape(1, 8, 1, 1),
        "v": floats(4, 8, 1, 1, seed=3),
    }
    nodes = [
        node("Conv", "x w b", "c"),
        node("Relu", "c", "r"),
        node("ConvTranspose", "r t d", "u", strides=[2, 2]),
        node("Conv", "u v", "y"),
    ]
    template = template_of(graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"y": None}))
    assert [(pair.first.name, pair.second.name) for pair in pairs(template)] == [("c", "u"), ("u", "y")]
    found = equalize(template).proto
    (exact,), (same,) = run(template.proto, x=X), run(found, x=X)
    assert np.abs(same - exact).max() <= 1e-4 * np.abs(exact).max()
    w, t, v = (np.abs(Graph(found.graph).arrays[name]) for name in "wtv")
    assert np.allclose(w.max((1, 2, 3)), t.max((1, 2, 3)), rtol=2e-3)
    assert np.allclose(t.max((0, 2, 3)), v.max((0, 2, 3)), rtol=2e-3)


def test_the_paper_s_scales() -> None:
    assert scales(np.array([4.0, 1.0]), np.array([1.0, 4.0])) == pytest.approx([2.0, 0.5])
    assert np.array_equal(scales(np.array([0.0, 1.0]), np.array([1.0, 0.0])), np.ones(2))


SKIPPED: dict[str, ModelProto] = {
    "a residual branch": network([node("Relu", "c", "r"), node("Add", "r c", "s")], "s"),
    "a clip": network([node("Clip", "c - shift", "s")], "s"),
    "a sigmoid": network([node("Sigmoid", "c", "s")], "s"),
    "a mixture of channels": network([node("Transpose", "c", "s", perm=[0, 1, 3, 2])], "s"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_passes_no_scale_is_skipped(name: str) -> None:
    template = template_of(SKIPPED[name])
    assert pairs(template) == []
    assert equalize(template).proto.SerializeToString(deterministic=True) == (
        template.proto.SerializeToString(deterministic=True)
    )


def test_a_tensor_that_is_an_output_too_is_skipped() -> None:
    proto = CHAINS["relu"]
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.append(copy.graph.output[0].__class__(name="r"))
    copy.graph.output[-1].type.tensor_type.elem_type = TensorProto.FLOAT
    assert pairs(template_of(copy)) == []


def test_a_tensor_of_which_integers_are_made_is_skipped() -> None:
    proto = CHAINS["relu"]
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.graph.node.append(node("ArgMax", "r", "best", axis=1))
    copy.graph.output.append(copy.graph.output[0].__class__(name="best"))
    copy.graph.output[-1].type.tensor_type.elem_type = TensorProto.INT64
    found = equalize(template_of(copy))
    assert np.array_equal(run(found.proto, "best", x=X)[0], run(copy, "best", x=X)[0])


def test_weights_that_are_shared_are_left() -> None:
    proto = graph(
        [
            node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("Conv", "r w", "y", pads=[1, 1, 1, 1]),
        ],
        {"w": floats(3, 3, 3, 3)},
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )
    found = equalize(template_of(proto))
    assert np.array_equal(run(found.proto, x=X)[0], run(proto, x=X)[0])


def test_a_chain_of_three_settles() -> None:
    proto = graph(
        [
            node("Conv", "x w b", "c"),
            node("Relu", "c", "r"),
            node("Conv", "r v", "d", group=8),
            node("Relu", "d", "q"),
            node("Conv", "q u", "y"),
        ],
        {
            "w": floats(8, 3, 3, 3) * WIDE.reshape(8, 1, 1, 1), "b": floats(8), "v": floats(8, 1, 3, 3, seed=1),
            "u": floats(4, 8, 1, 1, seed=2),
        },
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )  # fmt: skip
    found = equalize(template_of(proto))
    (exact,), (same,) = run(proto, x=X), run(found.proto, x=X)
    assert np.abs(same - exact).max() <= 1e-4 * np.abs(exact).max()
    arrays = Graph(found.proto.graph).arrays
    sizes = [np.abs(arrays[name]).max(axes) for name, axes in (("w", (1, 2, 3)), ("v", (1, 2, 3)), ("u", (0, 2, 3)))]
    assert np.allclose(sizes[0], sizes[1], rtol=0.05)
    assert np.allclose(sizes[1], sizes[2], rtol=0.05)
