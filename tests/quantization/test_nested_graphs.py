"""Graphs whose If, Loop and Scan read tensors of the graph around them: int8 around, float within."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from compress.errors import UsageError
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.graph import nested
from compress.exporting.int8_share import int8_share
from compress.exporting.lint.check import lint
from compress.exporting.parity import run as run_file
from compress.quantization.bare_file import open_float
from compress.quantization.ladder import Ladder, Options
from compress.quantization.outputs import OutputError, relative_error
from compress.quantization.template import template_of
from tests.quantization.graphs import Array, batches_of, floats, graph, node

X = np.abs(floats(16, 3, 8, 8, seed=9))
WEIGHTS = {
    "w": floats(8, 3, 3, 3, scale=0.3),
    "b": floats(8, seed=1, scale=0.2),
    "v": floats(8, 8, 3, 3, seed=2, scale=0.15),
    "u": floats(4, 8, 3, 3, seed=3, scale=0.15),
    "shift": floats(1, 8, 1, 1, seed=4),
    "zero": np.float32(0),
}
OUTER = [
    node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
    node("Relu", "c", "r"),
    node("Conv", "r v", "d", pads=[1, 1, 1, 1]),
    node("Relu", "d", "e"),
]
SIGN = [node("ReduceMean", "x", "mean", keepdims=0), node("Greater", "mean zero", "positive")]
LAST = node("Conv", "z u", "y")


def body(nodes: list[NodeProto], *outputs: str, inputs: tuple[onnx.ValueInfoProto, ...] = ()) -> GraphProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return helper.make_graph(nodes, "body", inputs, values)


def whole(*nodes: NodeProto, **arrays: object) -> ModelProto:
    return graph([*OUTER, *nodes, LAST], WEIGHTS | arrays, {"x": ["batch", 3, 8, 8]}, {"y": None})


def choice() -> ModelProto:
    """Either the second convolution's output plus a constant, or a convolution of the first one's with its weights."""
    then_branch = body([node("Add", "e shift", "added")], "added")
    else_branch = body([node("Conv", "r v", "other", pads=[1, 1, 1, 1])], "other")
    return whole(*SIGN, node("If", "positive", "z", then_branch=then_branch, else_branch=else_branch))


def choice_in_a_choice() -> ModelProto:
    """A tensor that only an inner branch reads, and one that an inner branch defines under an outer one's name."""
    inner = node(
        "If", "positive", "chosen",
        then_branch=body([node("Mul", "r shift", "scaled"), node("Add", "scaled e", "sum")], "sum"),
        else_branch=body([node("Neg", "e", "negative")], "negative"),
    )  # fmt: skip
    then_branch = body([inner], "chosen")
    else_branch = body([node("Sigmoid", "r", "gate"), node("Mul", "e gate", "gated")], "gated")
    return whole(*SIGN, node("If", "positive", "z", then_branch=then_branch, else_branch=else_branch))


def loop() -> ModelProto:
    """Three times: carried = carried * shift + r."""
    inputs = (
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
    )
    steps = [node("Identity", "go", "on"), node("Mul", "carried shift", "scaled"), node("Add", "scaled r", "next")]
    inner = body(steps, "on", "next", inputs=inputs)
    inner.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    return whole(node("Loop", "three yes e", "z", body=inner), three=np.int64(3), yes=np.array(True))


GRAPHS = {"if": choice, "if in if": choice_in_a_choice, "loop": loop}


def quantized(given: ModelProto, folder: Path, *, symmetric: bool = False) -> tuple[ModelProto, ModelProto]:
    """The float graph as it is read, and the canonical one, with all rungs of the ladder climbed."""
    onnx.save(given, folder / "given.onnx")
    floating = open_float(folder / "given.onnx")
    feeds = [*batches_of("x", X[:8], 4), *batches_of("x", -X[:8], 4)]
    options = Options(symmetric=symmetric, adaround_iterations=5, rungs=("static", "corrected", "adaround"))
    ladder = Ladder(template_of(floating), lambda: feeds, OutputError(floating, lambda: feeds), options)
    rungs = ladder.climb(lambda found: 1.0, 0.0)
    return floating, min(rungs, key=lambda rung: rung.error).result.canonical


def answers(proto: ModelProto, x: Array, folder: Path, *, optimize: bool = True) -> Array:
    onnx.save(proto, folder / "model.onnx")
    return np.asarray(run_file(folder / "model.onnx", [{"x": x}], optimize=optimize)[0])


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("emission", ["ort-x86", "ort-arm", "tensorrt"])
def test_answers_are_near_and_the_outer_convolutions_int8(name: str, emission: str, tmp_path: Path) -> None:
    given = GRAPHS[name]()
    floating, canonical = quantized(given, tmp_path, symmetric=emission == "tensorrt")
    emitted = EMISSIONS[emission](canonical)
    assert not [finding for finding in lint(emitted, emission) if finding.severity == "error"]
    for x in (X, -X):
        exact = answers(given, x, tmp_path, optimize=False)
        np.testing.assert_allclose(answers(floating, x, tmp_path), exact, atol=1e-4)
        assert relative_error(answers(canonical, x, tmp_path, optimize=False), exact) < 0.01
        assert relative_error(answers(emitted, x, tmp_path, optimize=emission == "ort-x86"), exact) < 0.01
    if emission != "tensorrt":
        share = int8_share(tmp_path / "model.onnx", signed=emission == "ort-arm")
        assert (share.integer, share.not_int8) == (3, ())


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_within_stays_as_it_was(name: str, tmp_path: Path) -> None:
    floating, canonical = quantized(GRAPHS[name](), tmp_path)
    before, after = (
        [item.op_type for part in proto.graph.node for item in within(part)] for proto in (floating, canonical)
    )
    assert before == after != []


def within(part: NodeProto) -> list[NodeProto]:
    return [item for inner in nested(part) for own in inner.node for item in (own, *within(own))]


def test_weights_that_a_body_reads_too_are_float_there(tmp_path: Path) -> None:
    _, canonical = quantized(choice(), tmp_path)
    arrays = {item.name: numpy_helper.to_array(item) for item in canonical.graph.initializer}
    np.testing.assert_array_equal(arrays["v"], WEIGHTS["v"])


def test_a_scan_over_what_a_convolution_writes(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    inputs = (value("sum", TensorProto.FLOAT, None), value("row", TensorProto.FLOAT, None))
    steps = [node("Add", "sum row", "more"), node("Mul", "more shift", "next"), node("Identity", "next", "seen")]
    scan = node("Scan", "first r", "- z", "scan", num_scan_inputs=1, body=body(steps, "next", "seen", inputs=inputs))
    scan.output[0] = "total"
    given = whole(scan, first=np.zeros((8, 8, 8), np.float32), shift=floats(8, 1, 1, seed=4, scale=0.3))
    _, canonical = quantized(given, tmp_path)
    exact = answers(given, X, tmp_path)
    assert relative_error(answers(EMISSIONS["ort-x86"](canonical), X, tmp_path), exact) < 0.01


def test_a_name_that_a_body_defines_is_not_taken_for_another_tensor(tmp_path: Path) -> None:
    """What quantization would call a tensor of its own, a body has already."""
    then_branch = body([node("Neg", "r", "r_dequantized"), node("Add", "r_dequantized r", "added")], "added")
    else_branch = body([node("Relu", "r", "r_quantized")], "r_quantized")
    given = whole(*SIGN, node("If", "positive", "z", then_branch=then_branch, else_branch=else_branch))
    _, canonical = quantized(given, tmp_path)
    for x in (X, -X):
        exact = answers(given, x, tmp_path)
        assert relative_error(answers(canonical, x, tmp_path), exact) < 0.01 or np.abs(exact).max() == 0


def test_a_file_with_nothing_to_quantize_outside_of_bodies(tmp_path: Path) -> None:
    branches = [body([node("Conv", "x w", name)], name) for name in ("one", "other")]
    nodes = [*SIGN, node("If", "positive", "y", then_branch=branches[0], else_branch=branches[1])]
    given = graph(nodes, {"w": WEIGHTS["w"], "zero": np.float32(0)}, {"x": ["batch", 3, 8, 8]}, {"y": None})
    onnx.save(given, tmp_path / "given.onnx")
    with pytest.raises(UsageError, match="to quantize outside of its If, whose bodies stay in float"):
        template_of(open_float(tmp_path / "given.onnx"))
