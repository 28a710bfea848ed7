from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from compress.quantization.fake_quantize import FakeQuantize, fake_quantize_weight, weight_scale
from compress.quantization.weighted import Norm, Weighted

ARGUMENTS = ([1, 1], [1, 1], [1, 1], 1)


def layer() -> tuple[Weighted, nn.Conv2d, nn.BatchNorm2d]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv, norm = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        nn.init.normal_(norm.weight)  # negative factors too
        nn.init.normal_(norm.bias)
        norm(conv(torch.randn(16, 4, 5, 5)))
    weighted = Weighted(torch.ops.aten.conv2d.default, conv.weight, conv.bias, ARGUMENTS, 8)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weighted.norm = Norm((norm.weight, norm.bias), (norm.running_mean, norm.running_var), 0.1, norm.eps)
    return weighted, conv, norm


def test_batch_statistics_are_those_of_the_convolution_with_rounded_weights() -> None:
    weighted, conv, norm = layer()
    x = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    expected = norm.train()(functional.conv2d(x, fake_quantize_weight(conv.weight), conv.bias, padding=1))
    assert torch.allclose(weighted.train()(x), expected, atol=1e-5)
    assert weighted.norm is not None
    assert norm.running_var is not None
    assert torch.allclose(weighted.norm.running_var, norm.running_var, atol=1e-6)


def test_folding_the_norm_changes_no_number() -> None:
    weighted, conv, norm = layer()
    x = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    expected = norm.eval()(functional.conv2d(x, fake_quantize_weight(conv.weight), conv.bias, padding=1))
    assert torch.allclose(weighted.eval()(x), expected, atol=1e-5)
    weighted.train().frozen = True
    assert torch.allclose(weighted(x), expected, atol=1e-5)


def test_integers_times_scale_are_the_folded_rounded_weights() -> None:
    weighted, _, _ = layer()
    integers, scale = weighted.integers()
    assert integers.dtype is torch.int8
    assert weighted.norm is not None
    factor = weighted.norm.factor_and_offset()[0]
    expected = weighted.rounded() * factor.reshape(-1, 1, 1, 1)
    assert torch.allclose(integers * scale.reshape(-1, 1, 1, 1), expected, atol=1e-6)


def test_bias_falls_on_the_grid_of_the_integer_kernel() -> None:
    weighted, _, _ = layer()
    quantizer = FakeQuantize()
    quantizer.set_range(-2.0, 2.0)
    weighted.source = (quantizer,)
    _, bias = weighted.eval().folded()
    _, scale = weighted.integers()
    assert bias is not None
    steps = bias / (quantizer.scale * scale)
    assert torch.allclose(steps, steps.round(), atol=1e-2)
    assert all(module is not quantizer for module in weighted.modules())  # it is not saved twice


def test_gradients_reach_the_weights_and_the_norm() -> None:
    weighted, _, _ = layer()
    weighted.train().frozen = True
    weighted(torch.randn(2, 4, 5, 5)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in weighted.parameters())


def test_folded_integers_are_taken_over_and_given_back() -> None:
    weighted, _, _ = layer()
    generator = torch.Generator().manual_seed(2)
    integers = torch.randint(-127, 128, (6, 4, 3, 3), generator=generator).to(torch.int8)
    scale, bias = torch.rand(6, generator=generator) + 0.01, torch.randn(6, generator=generator)
    weighted.eval().set_folded(integers, scale, bias)
    again, steps = weighted.integers()
    assert torch.equal(again, integers)
    assert torch.allclose(steps, scale)
    x = torch.randn(8, 4, 5, 5, generator=generator)
    expected = functional.conv2d(x, integers * scale.reshape(-1, 1, 1, 1), bias, padding=1)
    assert torch.allclose(weighted(x), expected, atol=1e-4 * float(expected.abs().max()))


def test_a_scale_of_its_own_stays_while_the_weights_move() -> None:
    weighted, _, _ = layer()
    weighted.norm = None
    follows = weighted.scale().clone()
    assert torch.allclose(follows, weight_scale(weighted.weight))
    weighted.set_folded(weighted.integers()[0] // 2, follows.flatten() * 2, None)
    with torch.no_grad():
        weighted.weight.mul_(0.5)
    assert torch.equal(weighted.scale(), follows * 2)


def test_float_weights_are_taken_over_and_the_scale_follows_them() -> None:
    weighted, _, _ = layer()
    weighted.norm = None
    weight, bias = torch.randn(6, 4, 3, 3), torch.randn(6)
    weighted.set_folded(torch.ones(6, 4, 3, 3, dtype=torch.int8), torch.ones(6), torch.zeros(6))
    weighted.set_float(weight, bias)
    assert torch.equal(weighted.scale(), weight_scale(weight))
    unrounded = weighted.unrounded()
    assert torch.equal(unrounded[0], weight) and unrounded[1] is not None and torch.equal(unrounded[1], bias)


def test_unrounded_is_the_float_layer_with_its_norm() -> None:
    weighted, conv, norm = layer()
    x = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    weight, bias = weighted.unrounded()
    assert torch.allclose(functional.conv2d(x, weight, bias, padding=1), norm.eval()(conv(x)), atol=1e-5)


def test_a_transposed_convolution_has_its_output_channels_on_the_second_axis() -> None:
    torch.manual_seed(0)
    conv, norm, x = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), nn.BatchNorm2d(6), torch.randn(8, 4, 5, 5)
    nn.init.normal_(norm.weight)
    norm(conv(x))
    arguments = ([2, 2], [1, 1], [1, 1], 1, [1, 1])
    function = torch.ops.aten.conv_transpose2d.input
    weighted = Weighted(function, conv.weight, conv.bias, arguments, 8, axis=1).eval()
    assert norm.running_mean is not None and norm.running_var is not None
    weighted.norm = Norm((norm.weight, norm.bias), (norm.running_mean, norm.running_var), 0.1, norm.eps)
    step = conv.weight.detach().abs().amax((0, 2, 3), keepdim=True) / 127
    conv.weight.data = torch.round(conv.weight / step) * step
    assert torch.allclose(weighted(x), norm.eval()(conv(x)), atol=1e-5)
    integers, scale = weighted.integers()
    factor = weighted.norm.factor_and_offset()[0].reshape(1, 6, 1, 1)
    assert torch.allclose(integers * scale.reshape(1, 6, 1, 1), conv.weight * factor, atol=1e-6)
    bias = torch.randn(6)
    weighted.set_folded(integers // 2, scale, bias)
    assert torch.equal(weighted.integers()[0], integers // 2)
    expected = functional.conv_transpose2d(x, integers // 2 * scale.reshape(1, 6, 1, 1), bias, 2, 1, 1)
    assert torch.allclose(weighted(x), expected, atol=1e-5)
