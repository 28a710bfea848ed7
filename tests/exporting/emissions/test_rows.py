from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from compress.exporting.emissions.attention import fuse_attention
from compress.exporting.emissions.rows import compute_rows_that_are_read
from tests.exporting.emissions.transformer_graphs import answers, quantized_bert


def _one_row_products(graph: ModelProto) -> int:
    """Products with constant weights of one row per text, by shape inference at a length of 8."""
    proto = ModelProto()
    proto.CopyFrom(graph)
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value, value.type.tensor_type.shape.dim[1].dim_value = 2, 8
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    sizes = {v.name: [axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in inferred.value_info}
    return sum(
        n.op_type == "MatMul" and len(sizes[n.output[0]]) == 3 and sizes[n.output[0]][1] == 1 for n in proto.graph.node
    )


@pytest.mark.parametrize(("attention", "narrow"), [(True, 4), (False, 2)])
def test_the_last_layer_is_computed_for_the_token_that_is_read(attention: bool, narrow: int, tmp_path: Path) -> None:
    """Queries and what follows attention too, where that is one operator; keys and values are needed of all tokens."""
    before, after = quantized_bert(), quantized_bert()
    if attention:
        fuse_attention(before)
        fuse_attention(after)
    assert _one_row_products(before) == 0
    compute_rows_that_are_read(after)
    onnx.checker.check_model(after)
    np.testing.assert_array_equal(answers(after, tmp_path), answers(before, tmp_path))
    assert _one_row_products(after) == narrow


def test_what_another_operator_reads_whole_stays_whole(tmp_path: Path) -> None:
    proto = quantized_bert()
    last = [node for node in proto.graph.node if node.op_type == "LayerNormalization"][-1]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None))
    compute_rows_that_are_read(proto)
    assert _one_row_products(proto) == 0
