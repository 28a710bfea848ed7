from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from compress.errors import UsageError
from compress.exporting.graph import Graph
from compress.quantization.template import QuantizedWeight, Template, insert, template_of, without
from tests.quantization.graphs import floats, graph, node, run, two_convolutions

X = floats(4, 3, 8, 8, seed=9)


def fine_weights(template: Template) -> dict[str, QuantizedWeight]:
    """The weights of each layer, made to lie on a grid of 255 steps exactly, so that rounding them changes nothing."""
    arrays = Graph(template.proto.graph).arrays
    found = {}
    for output, layer in template.layers.items():
        weight = arrays[layer.weight]
        scale = np.full(weight.shape[layer.axis], np.abs(weight).max() / 127, np.float32)
        found[output] = QuantizedWeight(np.rint(weight / scale[0]).astype(np.int8), scale)
    return found


def on_grid(proto: ModelProto, names: tuple[str, ...]) -> ModelProto:
    """The graph with weights that lie on an int8 grid."""
    values = Graph(proto.graph)
    for name in names:
        scale = np.float32(np.abs(values.arrays[name]).max() / 127)
        values.arrays[name] = np.rint(values.arrays[name] / scale).astype(np.float32) * scale
    values.write()
    return proto


def fine_grid(template: Template, feeds: dict[str, np.ndarray]) -> dict[str, tuple[float, int]]:
    """For each group the finest affine grid that holds what its tensors are on `feeds`."""
    found = {}
    for group, points in template.groups.items():
        values = np.concatenate([run(template.proto, p.tensor, **feeds)[0].reshape(-1) for p in points])
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scale = (high - low) / 255
        found[group] = (scale, int(np.clip(round(-128 - low / scale), -128, 127)))
    return found


def mean_steps(proto: ModelProto, template: Template, feeds: dict[str, np.ndarray]) -> float:
    """How far the quantized graph's outputs are from the float ones, in steps of 255 over what they span."""
    (exact, *_), (near, *_) = run(template.proto, **feeds), run(proto, **feeds)
    return float(np.abs(near - exact).mean() / (np.ptp(exact) / 255))


def test_a_fine_grid_gives_nearly_the_float_graph() -> None:
    template = template_of(on_grid(two_convolutions(), ("w1", "w2", "w3")))
    feeds = {"x": X}
    proto = insert(template, fine_grid(template, feeds), fine_weights(template))
    assert mean_steps(proto, template, feeds) < 2
    kinds = [item.op_type for item in proto.graph.node]
    assert kinds.count("QuantizeLinear") == len(template.points) == 4
    assert kinds.count("DequantizeLinear") == len(template.points) + 3


def test_the_template_is_left_as_it_is() -> None:
    template = template_of(two_convolutions())
    before = template.proto.SerializeToString(deterministic=True)
    insert(template, fine_grid(template, {"x": X}), fine_weights(template))
    assert template.proto.SerializeToString(deterministic=True) == before


def test_a_quantized_output_keeps_its_name() -> None:
    proto = on_grid(
        graph(
            [node("Conv", "x w", "c"), node("Relu", "c", "y"), node("Conv", "y v", "z")],
            {"w": floats(4, 3, 3, 3), "v": floats(2, 4, 3, 3)},
            {"x": ["batch", 3, 8, 8]},
            {"y": None, "z": None},
        ),
        ("w", "v"),
    )
    template = template_of(proto)
    grid = fine_grid(template, {"x": X})
    found = insert(template, grid, fine_weights(template))
    assert [value.name for value in found.graph.output] == ["y", "z"]
    y = run(found, "y", x=X)[0]
    scale, _ = grid["y"]
    assert np.allclose(y / scale, np.rint(y / scale), atol=1e-3)  # what another reads is quantized too
    assert mean_steps(found, template, {"x": X}) < 2


def test_only_the_readers_of_a_point_see_it_quantized() -> None:
    proto = on_grid(
        graph(
            [node("Exp", "x", "e"), node("Conv", "e w b", "c"), node("Exp", "e", "f")],
            {"w": floats(4, 3, 3, 3), "b": floats(4)},
            {"x": ["batch", 3, 8, 8]},
            {"c": None, "f": None},
        ),
        ("w",),
    )
    template = template_of(proto)
    (point,) = [p for p in template.points if p.tensor == "e"]
    assert point.readers == frozenset({"c"})
    found = insert(template, fine_grid(template, {"x": X}), fine_weights(template))
    assert np.array_equal(run(found, "f", x=X)[0], run(proto, "f", x=X)[0])
    assert mean_steps(found, template, {"x": X}) < 2


def test_a_product_with_its_bias() -> None:
    proto = on_grid(
        graph(
            [node("Exp", "x", "e"), node("MatMul", "e w", "p"), node("Add", "b p", "y"), node("Exp", "e", "z")],
            {"w": floats(6, 4), "b": floats(4)},
            {"x": ["batch", 5, 6]},
            {"y": None, "z": None},
        ),
        ("w",),
    )
    template = template_of(proto)
    assert template.layers.keys() == {"y"}
    x = floats(3, 5, 6, seed=2)
    grid = fine_grid(template, {"x": x})
    found = insert(template, grid, fine_weights(template))
    assert mean_steps(found, template, {"x": x}) < 2
    adds = next(item for item in found.graph.node if item.op_type == "Add")
    rounded = next(Graph(found.graph).arrays[name] for name in adds.input if name in Graph(found.graph).arrays)
    step = grid["e"][0] * fine_weights(template)["y"].scale
    original = Graph(proto.graph).arrays["b"]
    assert np.allclose(rounded / step, np.rint(original / step), atol=1e-3)


def test_a_bias_is_rounded_to_what_the_integer_kernel_adds() -> None:
    template = template_of(two_convolutions())
    grid, weights = fine_grid(template, {"x": X}), fine_weights(template)
    found = Graph(insert(template, grid, weights).graph)
    conv = next(item for item in found.nodes if item.op_type == "Conv" and "c2" in item.output[0])
    step = grid["r1"][0] * weights["c2"].scale.astype(np.float64)
    expected = np.rint(Graph(template.proto.graph).arrays["b2"] / step)
    assert np.array_equal(np.rint(found.arrays[conv.input[2]] / step), expected)
    assert np.allclose(found.arrays[conv.input[2]], expected * step, rtol=1e-6)


def test_layers_may_share_weights_and_biases_and_round_them_each_in_its_own_way() -> None:
    proto = on_grid(
        graph(
            [
                node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
                node("Relu", "c", "r"),
                node("Conv", "r w b", "d", pads=[1, 1, 1, 1]),
            ],
            {"w": floats(3, 3, 3, 3, scale=0.3), "b": floats(3)},
            {"x": ["batch", 3, 8, 8]},
            {"d": None},
        ),
        ("w",),
    )
    template = template_of(proto)
    weights = fine_weights(template)
    halved = QuantizedWeight(weights["d"].integers // 2, weights["d"].scale * 2)
    grid = fine_grid(template, {"x": X})
    assert mean_steps(insert(template, grid, weights), template, {"x": X}) < 2
    found = insert(template, grid, {**weights, "d": halved})
    scales = [array for name, array in Graph(found.graph).arrays.items() if name.endswith(".w_scale")]
    assert len(scales) == 2
    assert np.allclose(scales[1], 2 * scales[0])
    assert mean_steps(found, template, {"x": X}) < 4


def test_names_that_the_graph_has_already_do_no_harm() -> None:
    proto = graph(
        [node("Mul", "x x_scale", "s"), node("Conv", "s c.w_scale", "c", name="c.w"),
         node("Conv", "x c.w_scale", "c_float"),
         node("Add", "c c_float", "x_quantized"), node("Relu", "x_quantized", "y")],
        {"x_scale": np.float32(0.5), "c.w_scale": floats(4, 3, 3, 3)},
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )  # fmt: skip
    template = template_of(on_grid(proto, ("c.w_scale",)))
    found = insert(template, fine_grid(template, {"x": X}), fine_weights(template))
    assert mean_steps(found, template, {"x": X}) < 2


def test_without_some_operators() -> None:
    template = template_of(two_convolutions())
    less = without(template, frozenset({"c2"}))
    assert less.layers.keys() == {"c1", "y"}
    assert [point.tensor for point in less.points] == ["x", "r1", "p"]
    assert without(template, frozenset()).points == template.points
    nothing = without(template, frozenset(template.layers))
    assert not nothing.layers
    assert not nothing.points
    assert np.array_equal(run(insert(nothing, {}, {}), x=X)[0], run(template.proto, x=X)[0])


def test_the_group_that_a_layer_reads_is_found_behind_moves() -> None:
    template = template_of(two_convolutions())
    groups = {name: template.source_group(layer) for name, layer in template.layers.items()}
    assert groups == {"c1": "x", "c2": "r1", "y": "p"}


def test_a_glob_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ignore: 'head\*' matches no operator; there are c1, r1"):
        template_of(two_convolutions(), ["head*"])
