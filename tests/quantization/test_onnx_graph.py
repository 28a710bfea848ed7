from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from compress.exporting.graph import Graph
from compress.quantization.onnx_graph import Layer, Types, read
from compress.quantization.operators import Operator
from compress.quantization.template import template_of
from tests.quantization.graphs import floats, graph, node, two_convolutions


def reading(proto: ModelProto, *ignore: str) -> tuple[dict[str, Operator], dict[str, Layer]]:
    operators, layers = read(Graph(proto.graph), Types(proto), ignore)
    return {operator.output: operator for operator in operators}, layers


def image(*nodes: object, **arrays: object) -> ModelProto:
    """A graph that reads `x`, an image of 4 channels, and writes what the last operator does."""
    last = nodes[-1].output[0]  # type: ignore[attr-defined]
    return graph(nodes, arrays, {"x": ["batch", 4, 8, 8]}, {last: None})  # type: ignore[arg-type]


def kind_of(*nodes: object, **arrays: object) -> str:
    proto = image(*nodes, **arrays)
    return reading(proto)[0][proto.graph.output[0].name].kind


def test_kinds_and_what_each_reads() -> None:
    operators, layers = reading(two_convolutions())
    assert [(o.output, o.kind, o.inputs) for o in operators.values()] == [
        ("c1", "conv", ("x",)),
        ("r1", "relu", ("c1",)),
        ("c2", "conv", ("r1",)),
        ("p", "global_average_pool", ("c2",)),
        ("f", "reshape", ("p",)),
        ("y", "linear", ("f",)),
    ]
    assert {name: (layer.weight, layer.bias, layer.axis) for name, layer in layers.items()} == {
        "c1": ("w1", "b1", 0),
        "c2": ("w2", "b2", 0),
        "y": ("w3", "b3", 0),
    }


def test_bounds_of_a_relu_and_of_clips_with_and_without_ends() -> None:
    low, high = np.float32(0), np.float32(6)
    six = image(node("Clip", "x low high", "y"), low=low, high=high)
    assert reading(six)[0]["y"].bounds == (0.0, 6.0)
    assert reading(image(node("Clip", "x low", "y"), low=low))[0]["y"].bounds == (0.0, float("inf"))
    assert reading(image(node("Clip", "x - high", "y"), high=high))[0]["y"].bounds == (float("-inf"), 6.0)
    assert reading(image(node("Relu", "x", "y")))[0]["y"].bounds == (0.0, float("inf"))


@pytest.mark.parametrize(("low", "high"), [(0.5, 6.0), (-6.0, -1.0)])
def test_a_clip_that_leaves_out_zero_is_other(low: float, high: float) -> None:
    assert kind_of(node("Clip", "x low high", "y"), low=np.float32(low), high=np.float32(high)) == "other"


def test_a_clip_to_a_computed_end_is_other() -> None:
    assert kind_of(node("ReduceMax", "x", "most", keepdims=0), node("Clip", "x - most", "y")) == "other"


@pytest.mark.parametrize("first", [True, False])
def test_a_product_and_the_row_that_is_added_to_it_are_one_layer(first: bool) -> None:
    proto = graph(
        [node("MatMul", "x w", "product"), node("Add", "product b" if first else "b product", "y")],
        {"w": floats(4, 6), "b": floats(6)},
        {"x": ["batch", 7, 4]},
        {"y": None},
    )
    operators, layers = reading(proto)
    assert operators.keys() == layers.keys() == {"y"}
    assert layers["y"] == Layer("product", "linear", "x", "product", "y", "w", 1, "b")


@pytest.mark.parametrize("why", ["another reads the product", "it is an output", "it is no row", "it is computed"])
def test_a_sum_that_is_no_bias_stays_a_sum(why: str) -> None:
    nodes = [node("MatMul", "x w", "product"), node("Add", "product b", "y")]
    arrays = {"w": floats(4, 6), "b": floats(7, 6) if why == "it is no row" else floats(6)}
    outputs = {"y": None} | ({"product": None} if why == "it is an output" else {})
    if why == "another reads the product":
        nodes.append(node("Relu", "product", "z"))
        outputs["z"] = None
    if why == "it is computed":
        del arrays["b"]
        nodes.insert(0, node("MatMul", "x v", "b"))
        arrays["v"] = floats(4, 6)
    operators, layers = reading(graph(nodes, arrays, {"x": ["batch", 7, 4]}, outputs))
    assert layers["product"].bias is None
    assert operators["y"].kind == ("add" if why == "it is computed" else "other")


def test_the_axis_of_output_channels_follows_trans_b() -> None:
    nodes = [node("Gemm", "x a", "h"), node("Gemm", "h b", "y", transB=1)]
    proto = graph(nodes, {"a": floats(4, 6), "b": floats(3, 6)}, {"x": ["batch", 4]}, {"y": None})
    _, layers = reading(proto)
    assert {name: layer.axis for name, layer in layers.items()} == {"h": 1, "y": 0}


TRANSPOSED: dict[str, tuple[dict[str, Any], list[Any], str]] = {
    "an image": ({}, ["batch", 4, 8, 8], "conv_transpose"),
    "a line of any length": ({}, ["batch", 4, "length"], "conv_transpose"),
    "an image of any size": ({}, ["batch", 4, "height", 8], "other"),
    "groups": ({"group": 2}, ["batch", 4, 8, 8], "other"),
    "dilation": ({"dilations": [1, 2]}, ["batch", 4, 8, 8], "other"),
    "pads by a word": ({"auto_pad": "SAME_UPPER"}, ["batch", 4, 8, 8], "other"),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_counts_if_it_can_be_made_a_convolution(name: str) -> None:
    attributes, shape, kind = TRANSPOSED[name]
    arrays = {"w": floats(4, 6, *[2] * (len(shape) - 2)), "b": floats(6)}
    proto = graph([node("ConvTranspose", "x w b", "y", **attributes)], arrays, {"x": shape}, {"y": None})
    operators, layers = reading(proto)
    assert operators["y"].kind == kind
    assert [layer.axis for layer in layers.values()] == ([1] if kind == "conv_transpose" else [])


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}])
def test_a_gemm_of_another_formula_is_other(attributes: dict[str, Any]) -> None:
    rows = 4 if "transA" in attributes else "batch"
    proto = graph(
        [node("Gemm", "x w b", "y", **attributes)], {"w": floats(4, 6), "b": floats(6)}, {"x": [rows, 4]}, {"y": None}
    )
    operators, layers = reading(proto)
    assert operators["y"].kind == "other"
    assert not layers


def test_what_has_no_constant_weights_is_no_layer() -> None:
    dynamic = graph([node("Conv", "x w", "y")], {}, {"x": [1, 4, 8, 8], "w": [2, 4, 3, 3]}, {"y": None})
    operators, layers = reading(dynamic)
    assert operators["y"].kind == "other"
    assert not layers
    constant = graph([node("MatMul", "w x", "y")], {"w": floats(3, 4)}, {"x": [4, 5]}, {"y": None})
    assert not reading(constant)[1]
    batched = graph([node("MatMul", "x w", "y")], {"w": floats(2, 4, 5)}, {"x": [2, 3, 4]}, {"y": None})
    assert not reading(batched)[1]
    both = graph([node("MatMul", "a b", "y")], {}, {"a": [2, 3, 4], "b": [2, 4, 5]}, {"y": None})
    assert reading(both)[0]["y"].inputs == ("a", "b")


def test_a_bias_that_is_computed_makes_no_layer() -> None:
    proto = graph([node("Conv", "x w b", "y")], {"w": floats(2, 4, 3, 3)}, {"x": [1, 4, 8, 8], "b": [2]}, {"y": None})
    assert not reading(proto)[1]


@pytest.mark.parametrize(
    ("kind", "operator", "arrays"),
    [
        ("add", node("Add", "x x", "y"), {}),
        ("other", node("Add", "x c", "y"), {"c": floats(1)}),
        ("mul", node("Mul", "x x", "y"), {}),
        ("other", node("Mul", "x c", "y"), {"c": floats(1)}),
        ("concat", node("Concat", "x x", "y", axis=1), {}),
        ("other", node("Concat", "x c", "y", axis=1), {"c": floats(1, 4, 8, 8)}),
        ("pad", node("Pad", "x pads", "y"), {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        ("other", node("Pad", "x pads", "y", mode="reflect"), {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        (
            "other",
            node("Pad", "x pads c", "y"),
            {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "c": np.float32(1)},
        ),
        ("other", node("Pad", "x pads", "y"), {"pads": np.array([0, 0, -1, 0, 0, 0, 0, 0])}),
        ("resize_nearest", node("Resize", "x - scales", "y"), {"scales": np.array([1, 1, 2, 2], np.float32)}),
        ("other", node("Resize", "x - scales", "y", mode="linear"), {"scales": np.array([1, 1, 2, 2], np.float32)}),
        ("max_pool", node("MaxPool", "x", "y", kernel_shape=[2, 2]), {}),
        ("average_pool", node("AveragePool", "x", "y", kernel_shape=[2, 2]), {}),
        ("transpose", node("Transpose", "x", "y", perm=[0, 2, 3, 1]), {}),
        ("slice", node("Gather", "x i", "y", axis=1), {"i": np.array([0, 2])}),
        ("other", node("Gelu", "x", "y", domain="com.microsoft"), {}),
        ("other", node("Split", "x", "y z", axis=1, num_outputs=2), {}),
        ("other", node("Exp", "x", "y"), {}),
    ],
)
def test_what_is_other(kind: str, operator: object, arrays: dict[str, object]) -> None:
    assert kind_of(operator, **arrays) == kind


def test_an_embedding_is_other_and_a_pool_over_one_axis_is_a_pool() -> None:
    proto = graph(
        [
            node("Gather", "table i", "e"),
            node("Transpose", "e", "t", perm=[0, 2, 1]),
            node("GlobalAveragePool", "t", "y"),
        ],
        {"table": floats(10, 4)},
        {"i": ["batch", 7]},
        {"y": ["batch", 4, 1]},
        integers=["i"],
    )
    operators, _ = reading(proto)
    assert {name: o.kind for name, o in operators.items()} == {
        "e": "other",
        "t": "transpose",
        "y": "global_average_pool",
    }
    assert operators["e"].inputs == ()


def test_integer_tensors_are_left_out() -> None:
    proto = graph(
        [
            node("Shape", "x", "shape"),
            node("Add", "shape shape", "twice"),
            node("Cast", "x", "whole", to=TensorProto.INT64),
            node("Relu", "x", "y"),
        ],
        {},
        {"x": [1, 4, 8, 8]},
        {"y": None, "twice": [4], "whole": None},
        integers=["twice", "whole"],
    )
    assert reading(proto)[0].keys() == {"y"}


def test_a_half_precision_tensor_is_none_of_ours() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 4]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node("Relu", "x", "y")], "g", values[:1], values[1:]))
    assert reading(model)[0] == {}


def test_ignored_names_keep_their_kind_and_stay_in_float() -> None:
    operators, layers = reading(two_convolutions(), "c*")
    assert [name for name, o in operators.items() if o.ignored] == ["c1", "c2"]
    assert layers.keys() == {"c1", "c2", "y"}
    assert template_of(two_convolutions(), ["c*"]).layers.keys() == {"y"}


def test_an_operator_reads_what_the_graphs_within_it_read() -> None:
    bodies = [
        helper.make_graph([item], "body", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)])
        for item in (node("Add", "r k", "o"), node("Conv", "x w", "o"))
    ]
    proto = image(
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("If", "flag", "y", then_branch=bodies[0], else_branch=bodies[1]),
        w=floats(4, 4, 1, 1),
        k=np.float32(1),
        flag=np.array(True),
    )
    operators, layers = reading(proto)
    assert (operators["y"].kind, operators["y"].inputs) == ("other", ("x", "r"))
    assert list(layers) == ["c"]
    (point,) = [point for point in template_of(proto).points if point.tensor == "x"]
    assert point.readers == frozenset({"c"})
