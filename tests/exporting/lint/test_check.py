from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto

from compress.errors import StageError
from compress.exporting.lint.check import lint, refuse
from compress.exporting.lint.finding import Finding


def test_rules_descend_into_graphs_within_graphs() -> None:
    """The inner graph reads scales and a quantized tensor from around it."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[2,2] x, bool on) => (float[2,2] y) <float s = {0.1}, int8 z = {0}, float t = {-1.0}> {
          [outer] q = QuantizeLinear(x, s, z)
          [choice] y = If(on) <
            then_branch = yes () => (float[2,2] a) { [inner] a = DequantizeLinear(q, t, z) },
            else_branch = no () => (float[2,2] b) { [same] b = DequantizeLinear(q, s, z) }
          >
        }""")
    onnx.checker.check_model(model)
    found = {(finding.rule, finding.node) for finding in lint(model, "tensorrt")}
    assert ("positive-scale", "choice/yes/inner") in found
    assert not {node for rule, node in found if rule == "positive-scale"} - {"choice/yes/inner"}


def test_what_an_inner_graph_reads_counts_as_read() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[2,2] x, bool on) => (float[2,2] y) <float s = {0.1}, uint8 z = {0}> {
          q = QuantizeLinear(x, s, z)
          [shared] d = DequantizeLinear(q, s, z)
          e = Exp(d)
          [choice] y = If(on) <
            then_branch = yes () => (float[2,2] a) { a = Add(d, e) },
            else_branch = no () => (float[2,2] b) { b = Mul(e, e) }
          >
        }""")
    onnx.checker.check_model(model)
    assert [finding.node for finding in lint(model, "ort-x86") if finding.rule == "one-reader"] == ["shared"]


def test_scales_in_constant_operators_and_weights_quantized_in_the_file_are_seen() -> None:
    """As other exporters write them."""
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}, int8[2] wz = {0, 0}> {
          s = Constant<value = float {0.0}>()
          z = Constant<value = int8 {3}>()
          ws = Constant<value = float[2] {0.5, 0.25}>()
          [q] q = QuantizeLinear(x, s, z)
          [d] d = DequantizeLinear(q, s, z)
          wq = QuantizeLinear<axis=0>(w, ws, wz)
          wd = DequantizeLinear<axis=0>(wq, ws, wz)
          [conv] y = Conv<kernel_shape=[1,1]>(d, wd)
        }""")
    onnx.checker.check_model(model)
    found = {(finding.rule, finding.node) for finding in lint(model, "tensorrt")}
    assert found == {("positive-scale", "q"), ("positive-scale", "d"), ("zero-point", "q"), ("zero-point", "d")}


def test_an_empty_graph_is_clean() -> None:
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 18]> g (float x) => (float x) { }')
    assert lint(model, "fp32") == []
    assert isinstance(model, ModelProto)


def test_errors_are_refused_with_rule_place_and_advice_and_warnings_are_not() -> None:
    findings = [Finding("zero-point", "error", f"q{i}", "has a zero point", "set it to 0") for i in range(7)]
    warning = Finding("residual", "warning", "add", "is not fused", "quantize")
    refuse([warning], "model.onnx", "tensorrt")
    with pytest.raises(StageError) as caught:
        refuse([*findings, warning], "model.onnx", "tensorrt")
    assert str(caught.value).startswith(
        "export: model.onnx is not what tensorrt needs: q0 has a zero point (zero-point: set it to 0); q1 has"
    )
    assert str(caught.value).endswith("; and 2 more")
