"""Int8 files of networks that read texts: the fake-quantized network's answers, and int8 kernels that give them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.int8_share import int8_share
from compress.exporting.parity import check
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.convert import canonical
from compress.quantization.weighted import Weighted
from tests.exporting.text_exports import deployment
from tests.quantization.text_quantized import quantized, tensors

TASK = "text-classification"


@pytest.fixture(scope="module", params=["bert", "llama"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a network, and a folder with its emissions."""
    module, model = quantized(request.param)
    described = deployment(module, TASK)
    folder = tmp_path_factory.mktemp(request.param)
    graph = canonical(model, described, example_inputs(described), 18)
    for emission in ("ort-x86", "ort-arm"):
        save(EMISSIONS[emission](graph), folder / f"{emission}.onnx")
    return request.param, folder


@pytest.mark.parametrize("emission", ["ort-x86", "ort-arm"])
def test_a_file_gives_the_quantized_networks_answers_at_any_length(files: tuple[str, Path], emission: str) -> None:
    name, folder = files
    _, model = quantized(name)
    batches = [tensors(TASK, lengths) for lengths in ([1], [5, 12, 3], [24, 7, 16, 20])]
    with torch.no_grad():
        expected = [model(*batch).numpy() for batch in batches]
    names = ("input_ids", "attention_mask")
    feeds = [dict(zip(names, (x.numpy() for x in batch), strict=True)) for batch in batches]
    found = check(folder / f"{emission}.onnx", feeds, expected, integer=True)
    assert found.within_step >= 0.99
    assert found.examples == 8


@pytest.mark.parametrize("emission", ["ort-x86", "ort-arm"])
def test_every_linear_layer_runs_in_int8_and_attention_in_float(files: tuple[str, Path], emission: str) -> None:
    name, folder = files
    layers = sum(isinstance(layer, Weighted) for layer in quantized(name)[1].modules())
    counted = int8_share(folder / f"{emission}.onnx", signed=emission == "ort-arm")
    assert counted.integer == layers
    left = Counter(item["operator"] for item in counted.not_int8)
    assert left["Gemm"] == left["FusedGemm"] == left["MatMulNBits"] == 0
    reasons = Counter(item["reason"] for item in counted.not_int8 if "MatMul" in item["operator"])
    rotations = {"bert": 0, "llama": 1}[name]  # of positions: a product with constant frequencies, once in the network
    assert reasons.pop("kept in float: its inputs or its output are not worth quantizing here", 0) == rotations
    assert set(reasons) <= {"both sides are float activations"}


def test_weights_are_stored_once_as_int8(files: tuple[str, Path]) -> None:
    import onnx
    from onnx import numpy_helper

    name, folder = files
    arrays = {item.name: numpy_helper.to_array(item) for item in onnx.load(folder / "ort-x86.onnx").graph.initializer}
    stored = sum(array.size for array in arrays.values() if array.dtype == np.int8 and array.ndim == 2)
    assert stored == sum(layer.weight.numel() for layer in quantized(name)[1].modules() if isinstance(layer, Weighted))
