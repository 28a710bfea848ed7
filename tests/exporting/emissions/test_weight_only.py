from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.exporting.emissions.blocks import dequantize_blocks, quantize_blocks
from compress.exporting.emissions.weight_only import weight_only, would_quantize
from compress.exporting.graph import Graph
from compress.exporting.lint.check import lint
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from tests.exporting.emissions.token_graphs import TOKENS, token_arrays, token_network

FEED = {"tokens": np.random.default_rng(1).integers(0, TOKENS, 11)}


def rounded(weights: np.ndarray, bits: int, *, symmetric: bool = False) -> np.ndarray:
    """Weights (outputs, inputs) as they are stored."""
    return dequantize_blocks(quantize_blocks(weights, bits, symmetric=symmetric))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("width", "turned"), [(80, True), (80, False), (96, True)])
@pytest.mark.parametrize("bits", [4, 8])
def test_in_float_it_gives_the_products_with_rounded_weights(
    bits: int, width: int, turned: bool, symmetric: bool, tmp_path: Path
) -> None:
    """An embedding whose width is no multiple of a block stays float; as the head it is rounded all the same."""
    proto = weight_only(token_network(width, turned=turned), bits, symmetric=symmetric, accuracy_level=0)
    save(proto, tmp_path / "model.onnx")
    arrays = token_arrays(width)
    layer, head = (rounded(arrays[name], bits, symmetric=symmetric) for name in ("layer", "embedding"))
    embedding = (head if width == 96 else arrays["embedding"]).astype(np.float64)
    expected = (embedding[FEED["tokens"]] @ layer.T + arrays["bias"]) @ head.T @ arrays["narrow"]
    for optimize in (False, True):
        (found,) = run(tmp_path / "model.onnx", [FEED], optimize=optimize)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("bits", [4, 8])
def test_in_integers_it_loses_what_rounding_inputs_loses(bits: int, tmp_path: Path) -> None:
    answers = []
    for level in (0, 4):
        save(weight_only(token_network(), bits, accuracy_level=level), tmp_path / "model.onnx")
        answers += run(tmp_path / "model.onnx", [FEED], optimize=True)
    error = np.sqrt(np.square(answers[1] - answers[0]).mean() / np.square(answers[0]).mean())
    assert 0 < error < 0.02  # two layers, each with inputs of 8 bits


def test_layers_and_head_are_rounded_and_what_is_small_or_ignored_is_not() -> None:
    kinds = Counter(node.op_type for node in weight_only(token_network(), 4).graph.node)
    assert kinds == {"Gather": 1, "MatMulNBits": 2, "Add": 1, "MatMul": 1}
    kinds = Counter(node.op_type for node in weight_only(token_network(), 4, ["he*"]).graph.node)
    assert kinds == {"Gather": 1, "MatMulNBits": 1, "Add": 1, "Transpose": 1, "MatMul": 2}
    kinds = Counter(node.op_type for node in weight_only(token_network(96), 4).graph.node)
    assert kinds == {"Reshape": 1, "GatherBlockQuantized": 1, "MatMulNBits": 2, "Add": 1, "MatMul": 1}
    kinds = Counter(node.op_type for node in weight_only(token_network(96), 4, ["embed"]).graph.node)
    assert kinds == {"Gather": 1, "MatMulNBits": 2, "Add": 1, "MatMul": 1}


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_take_the_bytes_of_their_bits_and_of_a_scale_per_block(bits: int) -> None:
    """An embedding that is the head too is stored once."""
    arrays = Graph(weight_only(token_network(96), bits).graph).arrays
    assert not {"layer", "embedding"} & set(arrays)
    for name, outputs in (("layer", 96), ("embedding", TOKENS)):
        stored = [array.nbytes for key, array in arrays.items() if key.startswith(f"{name}_") and array.dtype != int]
        assert sum(stored) == outputs * (3 * 32 * bits // 8 + 3 * 4 + (2 if bits == 4 else 3))


@pytest.mark.parametrize("width", [80, 96])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_file_is_valid_and_keeps_the_rules_of_its_kind(bits: int, width: int) -> None:
    network = token_network(width)
    before = network.SerializeToString()
    proto = weight_only(network, bits)
    onnx.checker.check_model(proto)
    assert lint(proto, f"ort-weights{bits}") == []
    assert "of-its-kind" in {finding.rule for finding in lint(network, f"ort-weights{bits}")}
    assert network.SerializeToString() == before


def test_a_graph_without_a_large_layer_is_not_worth_it() -> None:
    network = token_network()
    assert would_quantize(network)
    assert not would_quantize(network, ["layer", "head"])
    graph = Graph(network.graph)
    graph.arrays["embedding"], graph.arrays["layer"] = graph.arrays["embedding"][:, :8], graph.arrays["layer"][:8, :8]
    graph.write()
    assert not would_quantize(network)
