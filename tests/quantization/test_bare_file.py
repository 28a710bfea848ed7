from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compress.errors import UsageError
from compress.exporting.graph import Graph
from compress.quantization.bare_file import open_float
from compress.quantization.post_training.weights import quantize_weights
from compress.quantization.template import insert, template_of
from tests.quantization.graphs import floats, graph, node, run, two_convolutions

MODELS = Path(os.environ.get("COMPRESS_DATA", "")) / "models"
X = floats(4, 3, 8, 8, seed=9)


def opened(proto: ModelProto, folder: Path) -> ModelProto:
    onnx.save(proto, folder / "model.onnx")
    return open_float(folder / "model.onnx")


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        template_of(open_float(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def refused(proto: ModelProto, folder: Path) -> str:
    onnx.save(proto, folder / "model.onnx")
    return refusal(folder / "model.onnx")


def same(found: ModelProto, given: ModelProto, x: np.ndarray = X) -> bool:
    return bool(np.allclose(run(found, x=x)[0], run(given, x=x)[0], atol=1e-5))


def test_weights_that_are_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    old = two_convolutions()
    old.ir_version = 3
    for item in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(item.name, TensorProto.FLOAT, item.dims))
    found = opened(old, tmp_path)
    assert [value.name for value in found.graph.input] == ["x"]
    assert len(template_of(found).layers) == 3
    assert same(found, old)


def test_opset_9_is_converted(tmp_path: Path) -> None:
    old = graph(
        [
            node("Conv", "x w b", "c"),
            node("Clip", "c", "six", min=0.0, max=6.0),
            node("Upsample", "six scales", "up"),
            node("ReduceMean", "up", "m", axes=[2, 3], keepdims=1),
            node("Squeeze", "m", "y", axes=[2, 3]),
        ],
        {"w": floats(4, 3, 3, 3), "b": floats(4), "scales": np.array([1, 1, 2, 2], np.float32)},
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
        opset=9,
        ir_version=4,
    )
    found = opened(old, tmp_path)
    assert found.opset_import[0].version == 18
    assert [(o.kind, o.bounds) for o in template_of(found).operators] == [
        ("conv", None),
        ("clip", (0.0, 6.0)),
        ("resize_nearest", None),
        ("global_average_pool", None),
        ("reshape", None),
    ]
    assert same(found, old)


def test_batch_norms_fold_and_constants_are_computed(tmp_path: Path) -> None:
    half = np.abs(floats(4, seed=3)) + 0.5
    given = graph(
        [
            node("Conv", "x w", "c"),
            node("BatchNormalization", "c scale shift mean variance", "n"),
            node("Sqrt", "four", "two"),
            node("Constant", "", "one", value=numpy_helper.from_array(np.array(1, np.float32))),
            node("Mul", "n two", "m"),
            node("Add", "m one", "y"),
        ],
        {
            "w": floats(4, 3, 3, 3), "scale": half, "shift": floats(4, seed=1), "mean": floats(4, seed=2),
            "variance": half, "four": np.float32(4),
        },
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )  # fmt: skip
    found = opened(given, tmp_path)
    assert not {item.op_type for item in found.graph.node} & {"BatchNormalization", "Sqrt", "Constant"}
    assert same(found, given)


def test_operators_get_names_of_their_own_and_documentation_goes(tmp_path: Path) -> None:
    given = two_convolutions()
    given.producer_name, given.doc_string = "someone", "/home/someone/net.py"
    helper.set_model_props(given, {"path": "/home/someone"})
    for item in given.graph.node:
        item.name, item.doc_string = (item.name if item.op_type == "Conv" else ""), "/home/someone/net.py"
    found = opened(given, tmp_path)
    names = [item.name for item in found.graph.node]
    assert len(set(names)) == len(names) and all(names)
    assert b"someone" not in found.SerializeToString()


def test_wrong_shapes_of_inner_tensors_are_ignored(tmp_path: Path) -> None:
    given = two_convolutions()
    given.graph.value_info.append(helper.make_tensor_value_info("c1", TensorProto.FLOAT, [1, 2]))
    assert same(opened(given, tmp_path), two_convolutions())


def test_wrong_shapes_of_outputs_are_ignored(tmp_path: Path) -> None:
    given = two_convolutions()
    given.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 9]))
    assert same(opened(given, tmp_path), two_convolutions())


def test_a_wrong_shape_of_an_input_is_one_message(tmp_path: Path) -> None:
    given = two_convolutions()
    given.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2]))
    said = refused(given, tmp_path)
    assert "ONNX Runtime does not load the graph" in said
    assert "source.onnx" not in said and "ONNXRuntimeError" not in said


def test_quantized_files_are_refused(tmp_path: Path) -> None:
    template = template_of(opened(two_convolutions(), tmp_path))
    pairs = insert(template, dict.fromkeys(template.groups, (0.05, 0)), quantize_weights(template))
    assert "already quantized" in refused(pairs, tmp_path)
    nodes = [node("QLinearConv", "x s z w s z s z", "y")]
    arrays = {"s": np.float32(0.1), "z": np.uint8(0), "w": np.ones((4, 3, 3, 3), np.uint8)}
    whole = graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"y": None})
    for value in (whole.graph.input[0], whole.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    assert "QLinearConv" in refused(whole, tmp_path)


def test_operators_that_the_runtime_does_not_have_are_refused(tmp_path: Path) -> None:
    given = graph([node("Magic", "x", "y", domain="my.own")], {}, {"x": [1, 3, 8, 8]}, {"y": None})
    assert "'my.own'" in refused(given, tmp_path)
    unknown = graph([node("Magic", "x", "y")], {}, {"x": [1, 3, 8, 8]}, {"y": None})
    assert "ONNX" in refused(unknown, tmp_path)


def test_a_function_of_the_files_own_is_written_out(tmp_path: Path) -> None:
    given = graph([node("Double", "x", "d", domain="my.own"), node("Conv", "d w", "y")],
                  {"w": floats(4, 3, 3, 3)}, {"x": ["batch", 3, 8, 8]}, {"y": None})  # fmt: skip
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    given.functions.append(helper.make_function("my.own", "Double", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))
    found = opened(given, tmp_path)
    assert {item.domain for item in found.graph.node} == {""}
    assert same(found, given)


def test_a_runtimes_own_operator_needs_no_import(tmp_path: Path) -> None:
    given = graph([node("Conv", "x w", "c"), node("Gelu", "c", "y", domain="com.microsoft")],
                  {"w": floats(4, 3, 3, 3)}, {"x": ["batch", 3, 8, 8]}, {"y": None})  # fmt: skip
    assert same(opened(given, tmp_path), given)
    expected = ModelProto()
    expected.CopyFrom(given)
    del given.opset_import[1:]
    assert same(opened(given, tmp_path), expected)


def branching(reads: str = "r") -> ModelProto:
    """A convolution, then one of two branches that read `reads` from outside, one with an inner branch of its own."""
    value = helper.make_tensor_value_info

    def branch(nodes: list[onnx.NodeProto], output: str) -> onnx.GraphProto:
        return helper.make_graph(nodes, output, [], [value(output, TensorProto.FLOAT, None)])

    inner = node("If", "flag", "chosen",
                 then_branch=branch([node("Add", f"{reads} shift", "added")], "added"),
                 else_branch=branch([node("Neg", reads, "negative")], "negative"))  # fmt: skip
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "d"),
        node("ReduceMean", "x", "mean", keepdims=0),
        node("Greater", "mean zero", "flag"),
        node("If", "flag", "i",
             then_branch=branch([inner], "chosen"), else_branch=branch([node("Identity", reads, "kept")], "kept")),
        node("ReduceSum", "i", "total", keepdims=0),
        node("Add", "d total", "y"),
    ]  # fmt: skip
    arrays = {
        "w": floats(4, 3, 3, 3), "b": floats(4), "v": floats(2, 4, 3, 3, seed=1, scale=0.1), "zero": np.float32(0),
        "shift": np.float32(2),
    }  # fmt: skip
    return graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"y": None})


def test_a_body_that_reads_nothing_else_stays(tmp_path: Path) -> None:
    given = branching("r")
    (chooses,) = [item for item in given.graph.node if item.op_type == "If"]
    for item, value in zip(chooses.attribute, (1.0, 2.0), strict=True):
        constant = node("Constant", "", "fixed", value=numpy_helper.from_array(np.array(value, np.float32)))
        output = helper.make_tensor_value_info("fixed", TensorProto.FLOAT, [])
        item.g.CopyFrom(helper.make_graph([constant], "body", [], [output]))
    found = opened(given, tmp_path)
    template = template_of(found)
    assert len(template.layers) == 2
    fine = insert(template, dict.fromkeys(template.groups, (0.05, 0)), quantize_weights(template))
    for sign in (1, -1):
        x = np.abs(X) * np.float32(sign * 0.01)
        assert same(found, given, x)
        (exact,), (rounded,) = run(given, x=x), run(fine, x=x)
        assert np.abs(rounded - exact).max() < 0.2  # the branches are 1 apart


def test_a_branch_that_never_changes_is_taken(tmp_path: Path) -> None:
    given = branching()
    graph_of = Graph(given.graph)
    graph_of.nodes = [item for item in graph_of.nodes if item.op_type != "Greater"]
    graph_of.arrays["flag"] = np.array(True)
    del given.graph.node[:]
    given.graph.node.extend(graph_of.nodes)
    given.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    found = opened(given, tmp_path)
    assert "If" not in {item.op_type for item in found.graph.node}
    assert same(found, given)


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    onnx.save(
        two_convolutions(), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    assert same(open_float(tmp_path / "model.onnx"), two_convolutions())
    (tmp_path / "weights.bin").unlink()
    said = refusal(tmp_path / "model.onnx")
    assert "file of their own" in said and "weights.bin" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an ONNX file"),
        (b"a text, and no graph at all\n" * 20, "not an ONNX file"),
        (b"\x00" * 100, "not an ONNX file"),
        (b"\x08\x0a", "not an ONNX file"),
    ],
)
def test_files_that_are_no_graphs(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert said in refusal(tmp_path / "model.onnx")


def test_half_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(two_convolutions().SerializeToString()[:2000])
    refusal(tmp_path / "model.onnx")


def test_a_folder_and_nothing_at_all(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"no such file: {tmp_path}"
    assert refusal(tmp_path / "none.onnx") == f"no such file: {tmp_path / 'none.onnx'}"


def test_a_graph_with_nothing_to_quantize(tmp_path: Path) -> None:
    given = graph([node("Relu", "x", "y")], {}, {"x": ["batch", 3, 8, 8]}, {"y": None})
    assert "no convolution, linear layer" in refused(given, tmp_path)


def test_half_precision_is_named(tmp_path: Path) -> None:
    given = two_convolutions()
    for item in given.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), item.name))
    for value in (*given.graph.input, *given.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "float16" in refused(given, tmp_path)


def test_an_operator_set_of_the_future(tmp_path: Path) -> None:
    given = two_convolutions()
    given.opset_import[0].version = 999
    refused(given, tmp_path)


def test_no_operator_set(tmp_path: Path) -> None:
    given = two_convolutions()
    del given.opset_import[:]
    refused(given, tmp_path)


def test_sums_of_one_and_two(tmp_path: Path) -> None:
    given = graph(
        [node("Conv", "x w", "c"), node("Conv", "x v", "d"), node("Sum", "c d", "s"), node("Sum", "s", "y")],
        {"w": floats(4, 3, 3, 3), "v": floats(4, 3, 3, 3, seed=1)},
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )
    found = opened(given, tmp_path)
    assert "Sum" not in {item.op_type for item in found.graph.node}
    assert same(found, given)


@pytest.mark.skipif(not MODELS.is_dir(), reason="COMPRESS_DATA holds no models")
@pytest.mark.parametrize("name", [
    "ultraface/version-RFB-320", "ultraface/version-RFB-320_without_postprocessing", "onnx/super_resolution",
    "onnx/light_shufflenet", pytest.param("onnx/light_resnet50", marks=pytest.mark.long),
    pytest.param("onnx/light_densenet121", marks=pytest.mark.long),
])  # fmt: skip
def test_files_of_others(name: str) -> None:
    found = open_float(MODELS / f"{name}.onnx")
    layers = template_of(found).layers
    weighted = [item for item in found.graph.node if item.op_type in ("Conv", "Gemm")]
    assert len(layers) == len(weighted) > 0


EACH_BROKEN: dict[str, Callable[[ModelProto], None]] = {
    "a tensor that nothing writes": lambda proto: proto.graph.node[0].input.__setitem__(0, "nothing"),
    "a cycle": lambda proto: proto.graph.node[0].input.__setitem__(0, "c2"),
    "two writers of one tensor": lambda proto: proto.graph.node[2].output.__setitem__(0, "c1"),
    "an unknown attribute": lambda proto: proto.graph.node[0].attribute.append(helper.make_attribute("magic", 1)),
    "weights of another shape": lambda proto: proto.graph.initializer[0].dims.__setitem__(0, 7),
    "an output that nothing writes": lambda proto: setattr(proto.graph.output[0], "name", "nothing"),
}


@pytest.mark.parametrize("fault", EACH_BROKEN)
def test_broken_graphs(fault: str, tmp_path: Path) -> None:
    given = two_convolutions()
    EACH_BROKEN[fault](given)
    refused(given, tmp_path)


@pytest.mark.parametrize("operator", ["MatMulNBits", "GatherBlockQuantized"])
def test_files_with_blocks_of_integers_are_quantized_ones(operator: str, tmp_path: Path) -> None:
    codes = numpy_helper.from_array(np.zeros((16, 1, 32), dtype=np.uint8), "codes")
    scales = numpy_helper.from_array(np.ones(16, dtype=np.float32), "scales")
    if operator == "MatMulNBits":
        layer = helper.make_node(
            operator, ["x", "codes", "scales"], ["y"], domain="com.microsoft", K=32, N=16, bits=8, block_size=32
        )
    else:
        layer = helper.make_node(operator, ["codes", "x", "scales"], ["y"], domain="com.microsoft", block_size=32)
    kinds = (TensorProto.FLOAT, [1, 32]) if operator == "MatMulNBits" else (TensorProto.INT64, [1, 2])
    ends = [helper.make_tensor_value_info("x", *kinds), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    made = helper.make_model(
        helper.make_graph([layer], "g", ends[:1], ends[1:], [codes, scales]),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)], ir_version=8,
    )  # fmt: skip
    said = refused(made, tmp_path)
    assert "already quantized" in said and operator in said
