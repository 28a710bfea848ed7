from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compress.exporting.emissions.integer import rewrite
from compress.exporting.graph import Graph
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph


@pytest.mark.parametrize("name", ["residual", "encoder-decoder", "mobile", "pre-activation", "perceptron"])
@pytest.mark.parametrize("unsigned", [True, False])
def test_the_rewritten_graph_gives_the_same_numbers(name: str, unsigned: bool, tmp_path: Path) -> None:
    proto, model, x = canonical_graph(name)
    with torch.no_grad():
        expected = model(x).numpy()
    save(rewrite(proto, unsigned=unsigned), tmp_path / "model.onnx")
    (found,) = run(tmp_path / "model.onnx", [{"input": x.numpy()}], optimize=False)
    assert np.mean(np.abs(found - expected) <= np.ptp(expected) / 255 * 1.3) >= 0.99


def test_unsigned_and_signed_are_the_same_numbers(tmp_path: Path) -> None:
    proto, _, x = canonical_graph("residual")
    answers = []
    for unsigned in (True, False):
        save(rewrite(proto, unsigned=unsigned), tmp_path / "model.onnx")
        answers += run(tmp_path / "model.onnx", [{"input": x.numpy()}], optimize=False)
    assert np.array_equal(answers[0], answers[1])


def test_relus_are_folded_and_what_moves_values_moves_integers() -> None:
    graph = rewrite(canonical_graph("residual")[0], unsigned=True).graph
    counts = Counter(node.op_type for node in graph.node)
    assert counts["Relu"] == 0
    writers = {name: node for node in graph.node for name in node.output}
    moving = [node for node in graph.node if node.op_type in ("Slice", "Pad", "Reshape", "Flatten")]
    assert moving
    assert all(writers[node.input[0]].op_type != "DequantizeLinear" for node in moving)
    assert counts["QuantizeLinear"] == 6
    types = {item.data_type for item in graph.initializer if "zero_point_unsigned" in item.name}
    assert types == {TensorProto.UINT8}


def test_biases_are_int32_with_the_product_of_the_scales() -> None:
    graph = Graph(rewrite(canonical_graph("residual")[0], unsigned=True).graph)
    writers = graph.writers()
    layers = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 4
    for node in layers:
        data, weight, bias = (writers[name] for name in node.input)
        assert graph.arrays[bias.input[0]].dtype == np.int32
        product = graph.arrays[data.input[1]] * graph.arrays[weight.input[1]]
        assert np.array_equal(graph.arrays[bias.input[1]], product)


def test_a_bias_too_large_for_its_scale_widens_the_weights_scale(tmp_path: Path) -> None:
    proto = ModelProto()
    proto.CopyFrom(canonical_graph("residual")[0])
    (scale,) = [item for item in proto.graph.initializer if item.name == "conv1.weight_scale"]
    values = numpy_helper.to_array(scale).copy()
    values[2] = 1e-12  # weights of next to nothing beside the bias
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    graph = Graph(rewrite(proto, unsigned=True).graph)
    biases = [array for name, array in graph.arrays.items() if array.dtype == np.int32]
    assert all(np.abs(array.astype(np.int64)).max() <= 2**30 + 1 for array in biases)


def test_every_dequantization_has_one_reader() -> None:
    graph = Graph(rewrite(canonical_graph("residual")[0], unsigned=True).graph)
    readers = graph.readers()
    nodes = [node for node in graph.nodes if node.op_type == "DequantizeLinear"]
    assert all(len(readers[node.output[0]]) == 1 for node in nodes)


def test_a_clip_stays_where_the_quantization_behind_it_clips_less() -> None:
    def clipped(scale: float) -> ModelProto:
        constants = {"s": np.float32(scale), "z": np.int8(-128), "low": np.float32(0), "high": np.float32(6)}
        nodes = [
            helper.make_node("Sigmoid", ["x"], ["a"]),
            helper.make_node("Clip", ["a", "low", "high"], ["b"]),
            helper.make_node("QuantizeLinear", ["b", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], arrays)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    kept, folded = (
        [node.op_type for node in rewrite(clipped(scale), unsigned=True).graph.node] for scale in (0.03, 0.02)
    )
    assert "Clip" in kept
    assert "Clip" not in folded
