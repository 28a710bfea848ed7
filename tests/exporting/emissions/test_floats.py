"""A layer that stays in float between int8 ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compress.exporting.emissions import ort_arm, ort_x86
from compress.exporting.lint.check import lint
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.processor import WEIGHT_BITS
from tests.quantization.networks import deployment


@pytest.mark.parametrize(("emission", "profile"), [(ort_x86, "ort-x86"), (ort_arm, "ort-arm")])
def test_its_weights_are_not_quantized_by_the_runtime(emission: object, profile: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second, third = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third, *end).eval()
    with torch.no_grad():
        second.weight[0] *= 200.0  # one scale for the whole tensor would round the other channels to nothing
        third.weight[:, 0] /= 200.0
    x = torch.randn(16, 4, 10, 10)
    model = prepare(module, (x[:2],), ignore=("2",), weight_bits=WEIGHT_BITS)
    calibrate(model, lambda: [(x,)], "minmax")
    with torch.no_grad():
        expected = model(x).numpy()
    described = deployment(x, torch.from_numpy(expected))
    proto = emission.emit(canonical(model, described, example_inputs(described), 18))  # type: ignore[attr-defined]
    save(proto, tmp_path / "model.onnx")
    assert [
        finding for finding in lint(onnx.load(tmp_path / "model.onnx"), profile) if finding.severity == "error"
    ] == []
    for optimize in (False, True):
        (found,) = run(tmp_path / "model.onnx", [{"input": x.numpy()}], optimize=optimize)
        assert np.mean(np.abs(found - expected) <= np.ptp(expected) / 255) >= 0.99
