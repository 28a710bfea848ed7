from __future__ import annotations

from pathlib import Path

import pytest

from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.int8_share import int8_share
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph


@pytest.mark.parametrize(("emission", "signed"), [("ort-x86", False), ("ort-arm", True)])
@pytest.mark.parametrize("name", ["residual", "mobile", "pre-activation", "perceptron"])
def test_all_of_it(name: str, emission: str, signed: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(EMISSIONS[emission](canonical_graph(name)[0]), path)
    counted = int8_share(path, signed=signed)
    assert counted.not_int8 == ()
    assert counted.share == 1.0
    assert counted.total >= 3


def test_what_is_left_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(EMISSIONS["ort-x86"](canonical_graph("encoder-decoder")[0]), path)
    counted = int8_share(path)
    assert counted.integer == 4
    (left,) = counted.not_int8
    assert left["operator"] == "ConvTranspose"
    assert left["reason"] == "ONNX Runtime has no int8 kernel for it"


def test_a_float_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(EMISSIONS["fp32"](canonical_graph("residual")[0]), path)
    assert int8_share(path).share == 0.0
