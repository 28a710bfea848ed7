from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.int8_share import int8_share
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from compress.targets.emissions import UNCALIBRATED_EMISSIONS
from tests.exporting.canonical_graphs import canonical_graph
from tests.exporting.emissions.token_graphs import token_network
from tests.quantization.networks import deployment, network


@pytest.mark.parametrize(("emission", "signed"), [("ort-x86", False), ("ort-arm", True)])
@pytest.mark.parametrize("name", ["residual", "encoder-decoder", "mobile", "pre-activation", "signal", "perceptron"])
def test_all_of_it(name: str, emission: str, signed: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(EMISSIONS[emission](canonical_graph(name)[0]), path)
    counted = int8_share(path, signed=signed)
    assert counted.not_int8 == ()
    assert counted.share == 1.0
    assert counted.total >= 3


def test_what_is_left_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    module, x = network("encoder-decoder")
    module.up = nn.ConvTranspose2d(16, 16, 2, 2, groups=2)
    model = prepare(module.eval(), (x[:2],))
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    save(EMISSIONS["ort-x86"](canonical(model, described, example_inputs(described), 18)), path)
    counted = int8_share(path)
    assert counted.integer == 4
    (left,) = counted.not_int8
    assert left["operator"] == "ConvTranspose"
    assert left["reason"] == "ONNX Runtime has no int8 kernel for it"


def test_a_float_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(EMISSIONS["fp32"](canonical_graph("residual")[0]), path)
    assert int8_share(path).share == 0.0


@pytest.mark.parametrize("emission", UNCALIBRATED_EMISSIONS)
def test_files_without_calibration_are_counted_and_a_small_layer_is_not_called_a_product_of_activations(
    emission: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    save(EMISSIONS[emission](token_network()), path)
    counted = int8_share(path)
    assert (counted.integer, counted.total) == (2, 3)
    (left,) = counted.not_int8
    assert left["name"] == "narrow" and left["reason"].startswith("kept in float")
