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
from tests.exporting.emissions.token_graphs import BIAS, EMBEDDING, LAYER, NARROW, token_network


def rounded(weights: np.ndarray, bits: int) -> np.ndarray:
    """Weights (inputs, outputs) as they are stored."""
    return dequantize_blocks(quantize_blocks(weights.T, bits)).T


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_in_float_it_gives_the_products_with_rounded_weights(bits: int, turned: bool, tmp_path: Path) -> None:
    tokens = np.random.default_rng(1).integers(0, 90, 11)
    proto = weight_only(token_network(turned=turned), bits, accuracy_level=0)
    save(proto, tmp_path / "model.onnx")
    hidden = EMBEDDING[tokens].astype(np.float64) @ rounded(LAYER, bits) + BIAS
    expected = hidden @ rounded(EMBEDDING.T, bits) @ NARROW
    for optimize in (False, True):
        (found,) = run(tmp_path / "model.onnx", [{"tokens": tokens}], optimize=optimize)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("bits", [4, 8])
def test_in_integers_it_loses_what_rounding_inputs_loses(bits: int, tmp_path: Path) -> None:
    tokens = np.random.default_rng(1).integers(0, 90, 11)
    answers = []
    for level in (0, 4):
        save(weight_only(token_network(), bits, accuracy_level=level), tmp_path / "model.onnx")
        answers += run(tmp_path / "model.onnx", [{"tokens": tokens}], optimize=True)
    error = np.sqrt(np.square(answers[1] - answers[0]).mean() / np.square(answers[0]).mean())
    assert 0 < error < 0.02  # two layers, each with inputs of 8 bits


def test_layers_and_head_are_rounded_and_what_is_small_or_ignored_is_not() -> None:
    kinds = Counter(node.op_type for node in weight_only(token_network(), 4).graph.node)
    assert kinds == {"Gather": 1, "MatMulNBits": 2, "Add": 1, "MatMul": 1}
    kinds = Counter(node.op_type for node in weight_only(token_network(), 4, ["he*"]).graph.node)
    assert kinds == {"Gather": 1, "MatMulNBits": 1, "Add": 1, "Transpose": 1, "MatMul": 2}


@pytest.mark.parametrize("bits", [4, 8])
def test_a_layer_takes_the_bytes_of_its_bits_and_of_a_scale_per_block(bits: int) -> None:
    arrays = Graph(weight_only(token_network(), bits).graph).arrays
    assert "layer" not in arrays
    stored = sum(array.nbytes for name, array in arrays.items() if name.startswith("layer_"))
    blocks = 80 * 3
    assert stored == blocks * 32 * bits // 8 + blocks * 4 + 80 * (2 if bits == 4 else 3)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_file_is_valid_and_keeps_the_rules_of_its_kind(bits: int) -> None:
    network = token_network()
    before = network.SerializeToString()
    proto = weight_only(network, bits)
    onnx.checker.check_model(proto)
    assert lint(proto, f"ort-weights{bits}") == []
    assert "of-its-kind" in {finding.rule for finding in lint(network, f"ort-weights{bits}")}
    assert network.SerializeToString() == before


def test_a_graph_without_a_large_layer_is_not_worth_it() -> None:
    network = token_network()
    assert would_quantize(network)
    graph = Graph(network.graph)
    graph.arrays["embedding"], graph.arrays["layer"] = EMBEDDING[:, :8], LAYER[:8, :8]
    graph.write()
    assert not would_quantize(network)
