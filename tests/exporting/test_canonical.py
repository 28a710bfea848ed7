from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from compress.exporting.canonical import Scale, dequantized, split
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from compress.quantization.fake_quantize import FakeQuantize
from tests.exporting.canonical_graphs import canonical_graph


def test_splits_into_the_float_graph_and_a_scale_for_each_tensor(tmp_path: Path) -> None:
    proto, model, x = canonical_graph("residual")
    graph, scales = split(proto)
    assert not {node.op_type for node in graph.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    weights = {name: scale for name, scale in scales.items() if scale.axis is not None}
    activations = {name: scale for name, scale in scales.items() if scale.axis is None}
    assert len(weights) == 4
    quantizers = [module for module in model.modules() if isinstance(module, FakeQuantize)]
    assert sorted(float(scale.scale) for scale in activations.values()) == sorted(q.scale.item() for q in quantizers)

    save(graph, tmp_path / "float.onnx")
    (found,) = run(tmp_path / "float.onnx", [{"input": x.numpy()}], optimize=False)
    for quantizer in quantizers:
        quantizer.enabled = False
    with torch.no_grad():
        expected = model(x).numpy()
    for quantizer in quantizers:
        quantizer.enabled = True
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dequantizes_per_channel() -> None:
    scale = Scale(np.array([0.5, 2.0], np.float32), np.array([0, 1], np.int8), 1)
    assert dequantized(np.array([[2, 3], [4, 1]], np.int8), scale).tolist() == [[1.0, 4.0], [2.0, 0.0]]
