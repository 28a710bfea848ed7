from __future__ import annotations

import pytest
import torch

from compress.errors import StageError
from compress.quantization.calibrate import calibrate, squared_error
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.prepare import prepare
from tests.quantization.networks import network


def test_minmax_represents_everything_that_was_seen() -> None:
    module, x = network("residual")
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x[:32],), (x[32:],)], "minmax")
    quantizer = model.get_submodule("quantizers.x")
    assert isinstance(quantizer, FakeQuantize)
    step = quantizer.scale.item()
    assert step == pytest.approx((x.max() - x.min()).item() / 255, rel=1e-5)
    assert (quantizer(x) - x).abs().max() <= 0.51 * step


def test_auto_is_the_best_of_the_three() -> None:
    module, x = network("mobile")
    x[0] *= 30  # an outlier
    model = prepare(module, (x[:2],))
    errors = {}
    for method in ("minmax", "mse", "percentile", "auto"):
        calibrate(model, lambda: [(x,)], method)
        with torch.no_grad():
            errors[method] = squared_error(model(x), module(x)).item()
    assert errors["auto"] == min(errors.values())


def test_values_that_are_not_finite_are_one_message() -> None:
    module, x = network("perceptron")
    model = prepare(module, (x[:2],))
    x[3, 3] = float("nan")
    with pytest.raises(StageError, match="not finite"):
        calibrate(model, lambda: [(x,)])
