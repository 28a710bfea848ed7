"""One ONNX graph against another, without torch."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto, TensorProto, helper

from compress.errors import UsageError
from compress.exporting.divergence import explain, explain_optimizations, optimized_graph
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph
from tests.exporting.planted import constant, four_times, planted, quantizers

SHORTCUT = "node_pad_shortcut_weight_dequantize"
REARRANGED = (SHORTCUT, "up_", "layers_up_")
"""How the names begin of operators that stand for another one together, of which a file has no tensor between them."""


@functools.cache
def graph(name: str) -> tuple[ModelProto, dict[str, Any]]:
    proto, _, x = canonical_graph(name)
    return proto, {"input": x[:4].numpy()}


@pytest.mark.parametrize("name", ["residual", "mobile", "encoder-decoder"])
def test_any_scale_times_four_is_found_where_it_is(name: str) -> None:
    proto, feeds = graph(name)
    file = EMISSIONS["ort-x86"](proto)
    for operator in quantizers(file)[::2]:
        found = explain(proto, planted(file, operator, constant(1, four_times)), feeds)
        assert found is not None, operator
        several = operator.startswith(REARRANGED)
        assert operator in found.operators if several else operator == found.operator, found.sentence()


@pytest.mark.parametrize("name", ["residual", "mobile", "encoder-decoder", "pre-activation", "perceptron"])
def test_healthy_files_raise_no_alarm(name: str, tmp_path: Path) -> None:
    proto, feeds = graph(name)
    x86, arm, float_graph = (EMISSIONS[emission](proto) for emission in ("ort-x86", "ort-arm", "fp32"))
    save(x86, tmp_path / "model.onnx")
    for reference in (proto, arm, float_graph):
        assert explain(reference, tmp_path / "model.onnx", feeds) is None
    assert explain_optimizations(tmp_path / "model.onnx", feeds) is None


def test_weights_and_pairs_of_scales_are_found_against_a_float_graph() -> None:
    proto, feeds = graph("residual")
    reference, file = EMISSIONS["fp32"](proto), EMISSIONS["ort-x86"](proto)
    for operator in quantizers(file)[::2]:
        found = explain(reference, planted(file, operator, constant(1, four_times)), feeds)
        assert found is not None
        assert operator == found.operator or operator in found.operators or repr(operator) in found.hint


def test_graphs_with_no_tensor_in_common_are_refused() -> None:
    proto, feeds = graph("residual")
    node = helper.make_node("Neg", ["input"], ["negative"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "negative")]
    other = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=9)
    with pytest.raises(UsageError, match="no tensor in common"):
        explain(other, proto, feeds)


def optimized(model: Path, operator: str, position: int) -> ModelProto:
    """What the runtime makes of a file, with a fault in one of its own operators."""
    graph = optimized_graph(model, everything=False)
    return planted(graph, operator, constant(position, four_times))


@pytest.mark.parametrize(
    ("operator", "kind", "position"),
    [
        ("stem.0", "QLinearConv", 6),
        ("conv2", "QLinearConv", 4),
        ("node_add_65", "QLinearAdd", 6),
        ("head.2", "QGemm", 4),
    ],
)
def test_an_operator_of_the_runtimes_own_is_found(operator: str, kind: str, position: int, tmp_path: Path) -> None:
    proto, feeds = graph("residual")
    save(EMISSIONS["ort-x86"](proto), tmp_path / "model.onnx")
    faulty = optimized(tmp_path / "model.onnx", operator, position)
    found = explain_optimizations(tmp_path / "model.onnx", feeds, faulty)
    assert found is not None
    assert (found.operator, found.kind) == (operator, kind)
