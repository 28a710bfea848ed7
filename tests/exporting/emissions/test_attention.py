from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from compress.exporting.emissions.attention import OPSET, UNCHANGED, fuse_attention
from tests.exporting.emissions.transformer_graphs import answers, optimized, quantized_bert


def test_attention_becomes_one_operator_of_the_same_numbers(tmp_path: Path) -> None:
    before, after = quantized_bert(), quantized_bert()
    fuse_attention(after)
    onnx.checker.check_model(after)
    kinds = Counter(node.op_type for node in after.graph.node)
    assert kinds["Attention"] == 1
    assert kinds["Softmax"] == 0
    assert kinds["MatMul"] == 6
    found, expected = answers(after, tmp_path), answers(before, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_onnx_runtime_leaves_it_as_one(tmp_path: Path) -> None:
    proto = quantized_bert()
    fuse_attention(proto)
    kinds = Counter(node.op_type for node in optimized(proto, tmp_path).node)
    assert kinds["Attention"] == 1
    assert kinds["Transpose"] == kinds["FusedMatMul"] == 0


def test_a_graph_with_an_operator_that_changed_its_meaning_keeps_its_opset() -> None:
    proto = quantized_bert()
    proto.graph.node.append(helper.make_node("GridSample", ["a", "b"], ["unread"]))
    fuse_attention(proto)
    assert proto.opset_import[0].version == 18
    assert all(node.op_type != "Attention" for node in proto.graph.node)


def test_operators_said_to_be_unchanged_gained_only_types_and_optional_things() -> None:
    for name in UNCHANGED:
        old, new = (onnx.defs.get_schema(name, version) for version in (18, OPSET))
        for one, other in zip(old.inputs, new.inputs, strict=False):
            assert one.option == other.option, name
        assert all(
            item.option != onnx.defs.OpSchema.FormalParameterOption.Single for item in new.inputs[len(old.inputs) :]
        )
        assert set(old.attributes) <= set(new.attributes), name
        assert all(not attribute.required for key, attribute in new.attributes.items() if key not in old.attributes), (
            name
        )
        for key, attribute in old.attributes.items():
            assert attribute.default_value == new.attributes[key].default_value, (name, key)
