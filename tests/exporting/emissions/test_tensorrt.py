from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from compress.errors import StageError
from compress.exporting.canonical import scale_of
from compress.exporting.element_types import computes_in_float16
from compress.exporting.emissions import ort_x86
from compress.exporting.emissions.tensorrt import emit, emit_float16, emit_float32
from compress.exporting.graph import Graph, attribute
from compress.exporting.lint.check import lint
from compress.exporting.parity import output_scale, run
from compress.exporting.references import answers_in_float16, round_only
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.exporting.canonical_graphs import canonical_graph
from tests.quantization.networks import deployment

NETWORKS = ["residual", "encoder-decoder", "mobile", "pre-activation", "perceptron"]


def symmetric(name: str) -> ModelProto:
    return canonical_graph(name, symmetric=True)[0]


def answers(proto: ModelProto, x: torch.Tensor, folder: Path) -> np.ndarray:
    save(proto, folder / "model.onnx")
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    return run(folder / "model.onnx", [{"input": x.numpy()}], optimize=False)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_gives_the_answers_of_the_network_that_rounds_where_it_does(name: str, tmp_path: Path) -> None:
    """The float32 one to the last bits of a sum; the float16 one no worse than torch's own float16."""
    proto, model, x = canonical_graph(name, symmetric=True)
    model = copy.deepcopy(model)
    wide = emit_float32(proto)
    round_only(model, {node.name for node in wide.graph.node})
    with torch.no_grad():
        expected = model(x).numpy()
    step = np.ptp(expected) / 255
    assert np.abs(answers(wide, x, tmp_path) - expected).max() <= 0.01 * step
    narrow = np.abs(answers(emit_float16(proto), x, tmp_path) - expected)
    floor = np.abs(answers_in_float16(model, (x,)).numpy() - expected)
    assert np.sqrt(np.mean(narrow**2)) <= 1.25 * np.sqrt(np.mean(floor**2))


@pytest.mark.parametrize("name", NETWORKS)
def test_float_tensors_are_float16_and_inputs_and_outputs_float32(name: str) -> None:
    proto = emit_float16(symmetric(name))
    assert {item.data_type for item in proto.graph.initializer} <= {
        TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64
    }  # fmt: skip
    ends = (*proto.graph.input, *proto.graph.output)
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    assert proto.opset_import[0].version == 19


@pytest.mark.parametrize("name", NETWORKS)
def test_where_all_floats_lie_inside_of_int8_kernels_they_are_float32(name: str) -> None:
    proto = symmetric(name)
    assert emit(proto) == emit_float32(proto)


@pytest.mark.parametrize("kind", ["Softmax", "Conv"])
def test_where_a_float_operator_is_left_floats_are_float16(kind: str) -> None:
    proto = ModelProto()
    proto.CopyFrom(symmetric("residual"))
    graph = Graph(proto.graph)
    if kind == "Softmax":
        graph.nodes.append(helper.make_node("Softmax", [graph.outputs[0]], ["likelihoods"], axis=-1))
        graph.outputs[0] = proto.graph.output[0].name = "likelihoods"
    else:
        (weight,) = [node for node in graph.nodes if node.name == "conv1.dequantize"]
        graph.arrays["float_weight"] = graph.arrays[weight.input[0]].astype(np.float32)
        graph.rename_reads(weight.output[0], "float_weight")
        graph.nodes.remove(weight)
    graph.write()
    assert computes_in_float16(emit(proto))
    assert not computes_in_float16(emit(symmetric("residual")))


class Chain(nn.Module):
    """Residual blocks in a row: rounding decides in one what the next ones round."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.second = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        for first, second in zip(self.first, self.second, strict=True):
            x = functional.relu(x + second(functional.relu(first(x))))
        result: torch.Tensor = self.last(x)
        return result


def test_a_chain_of_residual_sums_gives_the_integers_that_onnx_runtimes_file_gives(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, x = Chain().eval(), torch.randn(32, 3, 8, 8)
    model = prepare(module, (x[:2],), symmetric=True)
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    proto = canonical(model, described, example_inputs(described), 18)
    ours = emit(proto)
    assert len(quantized(ours)) == len(quantized(proto)) - 5  # four branches and the output
    theirs = answers(ort_x86.emit(proto), x, tmp_path)
    step = output_scale(tmp_path / "model.onnx")
    assert theirs.std() > 10 * step
    off = np.abs(answers(ours, x, tmp_path) - theirs)
    # half a step is what the one file rounds at its end and the other does not; ties are rounded either way
    assert (off <= 0.501 * step).mean() > 0.99


def quantized(proto: ModelProto) -> list[NodeProto]:
    return [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]


def test_zero_points_are_refused() -> None:
    with pytest.raises(StageError, match=r"x_quantize has a zero point.*set `grid: symmetric`"):
        emit(canonical_graph("residual")[0])


def test_a_sum_reads_the_convolution_before_it_in_float_and_the_skip_in_int8() -> None:
    graph = Graph(emit_float32(symmetric("residual")).graph)
    (add,) = [node for node in graph.nodes if node.op_type == "Add"]
    writers = graph.writers()
    assert writers[add.input[0]].op_type == "Conv"
    skip = writers[add.input[1]]
    while skip.op_type in ("Pad", "Slice"):
        skip = writers[skip.input[0]]
    assert skip.op_type == "DequantizeLinear"
    readers = graph.readers()
    assert [node.op_type for node in readers[writers[add.input[0]].output[0]]] == ["Add"]


def test_of_two_convolutions_that_are_added_the_last_stays_float() -> None:
    graph = Graph(emit_float32(two_convolutions_added()).graph)
    (add,) = [node for node in graph.nodes if node.op_type == "Add"]
    writers = graph.writers()
    assert [writers[name].name for name in add.input] == ["first_dequantize", "second"]


def two_convolutions_added() -> ModelProto:
    nodes = [*pair("x", "x")]
    for name in ("first", "second"):
        nodes += [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], [f"{name}_w"], f"{name}_weight"),
            helper.make_node("Conv", ["x_d", f"{name}_w"], [name], name),
            *pair(name, name),
        ]
    nodes += [helper.make_node("Add", ["first_d", "second_d"], ["sum"], "add"), *pair("sum", "sum")]
    nodes += [helper.make_node("Conv", ["sum_d", "first_w"], ["y"], "last")]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": np.ones((2, 2, 1, 1), np.int8)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in "xy"]
    arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def pair(tensor: str, name: str) -> list[NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [tensor, "s", "z"], [f"{name}_q"], f"{name}_quantize"),
        helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_d"], f"{name}_dequantize"),
    ]


def test_what_only_float_operators_read_is_not_quantized() -> None:
    graph = Graph(emit_float32(symmetric("encoder-decoder")).graph)
    assert graph.writers()[graph.outputs[0]].op_type == "Conv"


def test_a_transposed_convolution_reads_int8_with_a_scale_per_output_channel() -> None:
    graph = Graph(emit(symmetric("encoder-decoder")).graph)
    writers = graph.writers()
    (transposed,) = [node for node in graph.nodes if node.op_type == "ConvTranspose"]
    data, weight = (writers[name] for name in transposed.input[:2])
    assert {data.op_type, weight.op_type} == {"DequantizeLinear"}
    assert scale_of(graph, weight).axis == 1
    assert lint(emit(symmetric("encoder-decoder")), "tensorrt") == []


def test_what_is_joined_has_the_scale_of_the_whole() -> None:
    graph = Graph(emit_float32(symmetric("encoder-decoder")).graph)
    (concat,) = [node for node in graph.nodes if node.op_type == "Concat"]
    writers, (behind,) = graph.writers(), graph.readers()[concat.output[0]]
    around = [writers[name] for name in concat.input] + [behind]
    assert [node.op_type for node in around] == ["DequantizeLinear"] * 2 + ["QuantizeLinear"]
    assert len({float(scale_of(graph, node).scale) for node in around}) == 1


def test_kernel_shapes_are_written_out() -> None:
    proto = two_convolutions_added()
    assert not any(node.attribute for node in proto.graph.node)
    convolutions = [node for node in emit(proto).graph.node if node.op_type == "Conv"]
    assert [attribute(node, "kernel_shape") for node in convolutions] == [[1, 1]] * 3


def test_scales_below_float16_stay_positive_and_weights_near_their_values() -> None:
    proto = ModelProto()
    proto.CopyFrom(symmetric("residual"))
    (item,) = [item for item in proto.graph.initializer if item.name == "conv1.weight_scale"]
    scales = numpy_helper.to_array(item).copy()
    scales[0], scales[1] = 2.0**-40, 1.7e-7
    item.CopyFrom(numpy_helper.from_array(scales, item.name))
    before, after = Graph(proto.graph), Graph(emit_float16(proto).graph)
    (node,) = [node for node in after.nodes if node.name == "conv1.dequantize"]
    rounded = after.arrays[node.input[1]].astype(np.float32)
    assert (rounded > 0).all()
    integers = before.arrays["conv1.weight_quantized"]
    exact = integers.astype(np.float32) * scales[:, None, None, None]
    found = after.arrays[node.input[0]].astype(np.float32) * rounded[:, None, None, None]
    assert (np.abs(found - exact)[:2] <= rounded[:2, None, None, None] * 0.5 + 1e-12).all()
    assert Counter(map(bool, (after.arrays[node.input[0]] == integers).all(axis=(1, 2, 3)))) == {True: 14, False: 2}
