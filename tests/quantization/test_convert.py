from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.quantization.networks import NETWORKS, deployment, network


@pytest.mark.parametrize(("name", "symmetric"), [*((name, False) for name in NETWORKS), ("residual", True)])
def test_the_canonical_graph_gives_the_prepared_models_numbers(name: str, symmetric: bool, tmp_path: Path) -> None:
    module, x = network(name)
    model = prepare(module, (x[:2],), symmetric=symmetric)
    calibrate(model, lambda: [(x,)], "minmax")
    with torch.no_grad():
        expected = model(x).numpy()
    described = deployment(x, torch.from_numpy(expected))
    save(canonical(model, described, example_inputs(described), 18), tmp_path / "canonical.onnx")
    (found,) = run(tmp_path / "canonical.onnx", [{"input": x.numpy()}], optimize=False)
    steps = np.abs(found - expected) / (np.ptp(expected) / 255)
    assert np.mean(steps <= 1) >= 0.99


def test_it_is_signed_holds_int8_weights_and_is_the_same_each_time() -> None:
    module, x = network("residual")
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x,)])
    described = deployment(x, module(x))
    graphs = [canonical(model, described, example_inputs(described), 18) for _ in range(2)]
    assert graphs[0].SerializeToString(deterministic=True) == graphs[1].SerializeToString(deterministic=True)
    counts = Counter(node.op_type for node in graphs[0].graph.node)
    assert counts["QuantizeLinear"] == 6
    assert counts["DequantizeLinear"] == 6 + 4
    sizes = {item.name: item.data_type for item in graphs[0].graph.initializer if "quantized" in item.name}
    assert len(sizes) == 4
    assert set(sizes.values()) == {3}  # int8
    assert {item.domain for item in graphs[0].opset_import} == {""}
