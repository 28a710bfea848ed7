"""Files for processors that sum in 32 bits, checked on whatever the tests run on: their weights have 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.parity import check, run
from compress.exporting.right_sums import FOR_OTHERS, unsigned
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.exporting.canonical_graphs import canonical_graph
from tests.exporting.text_exports import deployment
from tests.models.text_networks import made
from tests.processor import WEIGHT_BITS
from tests.quantization.text_quantized import tensors

TASK = "text-classification"


@pytest.mark.parametrize("emission", FOR_OTHERS)
@pytest.mark.parametrize("name", ["residual", "mobile", "perceptron"])
def test_a_file_gives_the_answers_that_it_gives_where_it_goes(name: str, emission: str, tmp_path: Path) -> None:
    proto, model, x = canonical_graph(name, weight_bits=8)
    save(EMISSIONS[emission](proto), tmp_path / "model.onnx")
    with torch.no_grad():
        expected = model(x).numpy()
    found = check(tmp_path / "model.onnx", [{"input": x.numpy()}], [expected], integer=True, emission=emission)
    assert found.within_step >= 0.99 and found.agreement >= 0.99


@pytest.mark.skipif(WEIGHT_BITS == 8, reason="this processor sums in 32 bits")
def test_so_it_would_not_be_with_the_kernels_that_are_here(tmp_path: Path) -> None:
    proto, model, x = canonical_graph("residual", weight_bits=8)
    save(EMISSIONS["ort-x86"](proto), tmp_path / "model.onnx")
    with torch.no_grad():
        expected = model(x).numpy()
    (found,) = run(tmp_path / "model.onnx", [{"input": x.numpy()}], optimize=True)
    assert np.abs(found - expected).max() > 10 * np.ptp(expected) / 255


@pytest.mark.parametrize("emission", FOR_OTHERS)
def test_integer_products_that_stand_in_a_file_are_right_as_well(emission: str, tmp_path: Path) -> None:
    _, module = made("bert", TASK, num_hidden_layers=1)
    described = deployment(module, TASK)
    model = prepare(module, example_inputs(described, nominal=True), weight_bits=8)
    calibrate(model, lambda: [tensors(TASK, [3, 24, 9, 16])], "minmax")
    save(EMISSIONS[emission](canonical(model, described, example_inputs(described), 18)), tmp_path / "model.onnx")
    batches = [tensors(TASK, lengths) for lengths in ([1], [5, 12, 3])]
    with torch.no_grad():
        expected = [model(*batch).numpy() for batch in batches]
    feeds = [{"input_ids": ids.numpy(), "attention_mask": mask.numpy()} for ids, mask in batches]
    assert check(tmp_path / "model.onnx", feeds, expected, integer=True, emission=emission).within_step >= 0.99


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_unsigned_numbers_are_the_same_numbers(biased: bool, signed: bool, tmp_path: Path) -> None:
    """Held against the sums in Python's own integers, at the greatest numbers that there are."""
    random, kind = np.random.default_rng(0), np.int8 if signed else np.uint8
    least, greatest = np.iinfo(kind).min, np.iinfo(kind).max
    x = random.integers(least, greatest + 1, (5, 64)).astype(kind)
    x[0] = greatest
    weights, zero_point = random.integers(-128, 128, (64, 7)).astype(np.int8), kind(3)
    weights[:, 0] = 127
    scales, bias = random.uniform(0.01, 0.1, 7).astype(np.float32), random.normal(size=7).astype(np.float32)
    arrays = {"w": weights, "xs": np.float32(0.02), "ws": scales, "xz": zero_point, "b": bias}
    inputs = ["x", "w", "xs", "ws", "xz", *(["", "b"] if biased else [])]
    nodes = [helper.make_node("MatMulIntegerToFloat", inputs, ["y"], "product", domain="com.microsoft")]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.INT8 if signed else TensorProto.UINT8, [5, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 7])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    save(unsigned(helper.make_model(graph, opset_imports=opsets, ir_version=10)), tmp_path / "model.onnx")
    sums = (x.astype(np.int64) - 3) @ weights.astype(np.int64)
    expected = sums * 0.02 * scales + (bias if biased else 0)
    for optimize in (False, True):
        (found,) = run(tmp_path / "model.onnx", [{"x": x}], optimize=optimize)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_what_is_not_known_stays() -> None:
    """Weights that are computed, data without a zero point."""
    for inputs in (["x", "w", "s", "s", "z"], ["x", "known", "s", "s"]):
        node = helper.make_node("MatMulIntegerToFloat", inputs, ["y"], "product", domain="com.microsoft")
        given = [helper.make_tensor_value_info(name, TensorProto.INT8, [2, 2]) for name in ("x", "w")]
        arrays = {"known": np.ones((2, 2), np.int8), "s": np.float32(1), "z": np.int8(0)}
        graph = helper.make_graph(
            [node], "product", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
        )  # fmt: skip
        (left,) = unsigned(helper.make_model(graph)).graph.node
        assert list(left.input) == inputs
