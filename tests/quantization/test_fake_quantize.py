from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compress.quantization.fake_quantize import FakeQuantize, fake_quantize_weight, grid, weight_scale


def runtime_round_trip(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """ONNX Runtime's own QuantizeLinear and DequantizeLinear."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(scale, np.float32), "s"),
        numpy_helper.from_array(np.array(zero_point, np.int8), "z"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.asarray(session.run(None, {"x": x.numpy()})[0]))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 2.5), (-4.0, 0.0), (-0.3, 0.7)])
def test_gives_the_numbers_of_the_runtime_to_the_last_bit(low: float, high: float) -> None:
    x = torch.linspace(low * 1.5 - 0.1, high * 1.5 + 0.1, 4001)
    quantizer = FakeQuantize()
    quantizer.set_range(low, high)
    expected = runtime_round_trip(x, quantizer.scale.item(), int(quantizer.zero_point))
    assert torch.equal(quantizer(x), expected)


def test_gradient_is_that_of_torchs_own_fake_quantization() -> None:
    x = torch.linspace(-3, 3, 999).requires_grad_()
    quantizer = FakeQuantize()
    quantizer.set_range(-1.0, 2.0)
    quantizer(x).square().sum().backward()
    mine = x.grad
    x.grad = None
    scale, zero_point = quantizer.scale.item(), int(quantizer.zero_point)
    torch.fake_quantize_per_tensor_affine(x, scale, zero_point, -128, 127).square().sum().backward()  # type: ignore[no-untyped-call]
    assert mine is not None
    assert x.grad is not None
    assert torch.equal(mine, x.grad)


def test_weights_are_those_of_torchs_own_per_channel_fake_quantization() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    scale = weight_scale(weight)
    expected = torch.fake_quantize_per_channel_affine(
        weight, scale.flatten(), torch.zeros(6, dtype=torch.int32), 0, -127, 127
    )
    assert (fake_quantize_weight(weight) - expected).abs().max() <= scale.max() * 1e-4
    assert fake_quantize_weight(weight, bits=7).div(weight_scale(weight, 7)).abs().max() <= 63.001


def test_error_halves_with_each_bit_of_the_weights() -> None:
    weight = torch.randn(16, 512, generator=torch.Generator().manual_seed(0))
    errors = [(fake_quantize_weight(weight, bits) - weight).square().mean().sqrt().item() for bits in (5, 6, 7, 8)]
    assert all(1.8 < coarse / fine < 2.2 for coarse, fine in itertools.pairwise(errors))


def test_behind_a_relu_the_zero_point_is_the_least_value() -> None:
    assert grid(-5.0, 4.0, (0.0, float("inf")), symmetric=False)[1] == -128
    assert grid(0.0, 4.0, None, symmetric=False)[1] == -128


def test_behind_a_clip_no_value_lies_outside_of_it() -> None:
    scale, zero_point = grid(0.0, 9.0, (0.0, 6.0), symmetric=False)
    assert float(np.float32(scale) * np.float32(127 - zero_point)) <= 6.0


def test_zero_is_always_exact_and_empty_ranges_do_no_harm() -> None:
    for low, high in ((0.5, 2.0), (-2.0, -0.5), (0.0, 0.0)):
        quantizer = FakeQuantize()
        quantizer.set_range(low, high)
        assert quantizer(torch.zeros(3)).eq(0).all()


def test_symmetric_grid_has_no_zero_point() -> None:
    quantizer = FakeQuantize(symmetric=True)
    quantizer.set_range(-1.0, 2.0)
    assert int(quantizer.zero_point) == 0
    assert quantizer(torch.tensor([2.0])).item() == pytest.approx(2.0)


def test_follows_the_range_only_while_observing_in_training() -> None:
    quantizer = FakeQuantize()
    quantizer.set_range(-1.0, 1.0)
    x = torch.tensor([-5.0, 5.0])
    quantizer.observing = True
    quantizer.eval()(x)
    assert quantizer.high.item() == 1.0
    quantizer.train()(x)
    assert 1.0 < quantizer.high.item() < 5.0
    before = quantizer.scale.item()
    quantizer.update_scale()
    assert quantizer.scale.item() > before


@pytest.mark.parametrize("zero_point", [0, -128, 17])
def test_the_learned_scales_gradient_is_the_papers_formula(zero_point: int) -> None:
    """Esser et al. 2020, equation 3, one value at a time in float64."""
    x = torch.linspace(-4, 5, 1200).reshape(6, 1, 200).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    quantizer = FakeQuantize().train()
    quantizer.set_grid(0.013, zero_point)
    quantizer.learning = True
    (quantizer(x) * weights).sum().backward()
    scale = quantizer.scale.item()
    low, high = -128 - zero_point, 127 - zero_point
    total, passed = 0.0, []
    for value, weight in zip(x.flatten().tolist(), weights.flatten().tolist(), strict=True):
        steps = value / scale
        inside = low - 0.5 <= steps <= high + 0.5
        slope = round(steps) - steps if inside else (low if steps < low else high)
        total += weight * slope
        passed.append(weight if inside else 0.0)
    expected = total / np.sqrt(200 * max(-low, high))
    assert quantizer.scale.grad is not None and x.grad is not None
    assert quantizer.scale.grad.item() == pytest.approx(expected, rel=1e-3)
    assert np.mean(x.grad.flatten().numpy() == np.array(passed, np.float32)) > 0.998  # but for values on the edge


def test_a_learned_grid_gives_the_same_numbers_as_a_fixed_one() -> None:
    x = torch.linspace(-4, 5, 999)
    quantizer = FakeQuantize().train()
    quantizer.set_grid(0.013, -3)
    fixed = quantizer(x)
    quantizer.learning = True
    assert torch.equal(quantizer(x), fixed)


def test_learning_finds_the_scale_of_least_error() -> None:
    x = torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    quantizer = FakeQuantize(symmetric=True).train()
    quantizer.learning = True

    def error(scale: float) -> float:
        steps = (x / scale).round().clamp(-128, 127)
        return float((steps * scale - x).square().mean())

    found = []
    for start in (0.02, 0.08):
        quantizer.set_grid(start, 0)
        optimizer = torch.optim.Adam([quantizer.scale], lr=2e-4)
        for _ in range(600):
            optimizer.zero_grad()
            (quantizer(x) - x).square().sum().backward()
            optimizer.step()
        found.append(error(quantizer.scale.item()))
    best = min(error(scale) for scale in np.linspace(0.01, 0.08, 200))
    assert max(found) < 1.3 * best


def test_a_learned_scale_stays_foldable() -> None:
    quantizer = FakeQuantize(bounds=(0.0, 6.0))
    quantizer.set_grid(0.1, -128)
    quantizer.keep_foldable()
    assert float(np.float32(quantizer.scale.item()) * np.float32(255)) <= 6.0
    assert quantizer.scale.item() == pytest.approx(6 / 255, rel=1e-6)
    for bounds in ((0.0, float("inf")), None):
        free = FakeQuantize(bounds=bounds)
        free.set_grid(0.1, -128)
        free.keep_foldable()
        assert free.scale.item() == pytest.approx(0.1)
        with torch.no_grad():
            free.scale.fill_(-0.5)
        free.keep_foldable()
        assert free.scale.item() > 0


def test_a_grid_that_is_taken_over_is_kept() -> None:
    quantizer = FakeQuantize()
    for scale, zero_point in ((0.02, -128), (0.5, 3), (0.01, 0)):
        quantizer.set_grid(scale, zero_point)
        quantizer.update_scale()
        assert quantizer.scale.item() == pytest.approx(scale, rel=1e-6)
        assert int(quantizer.zero_point) == zero_point


def test_a_grid_that_is_taken_over_is_kept_without_zero_point() -> None:
    quantizer = FakeQuantize(symmetric=True)
    quantizer.set_grid(0.02, 0)
    quantizer.update_scale()
    assert quantizer.scale.item() == pytest.approx(0.02, rel=1e-6)
