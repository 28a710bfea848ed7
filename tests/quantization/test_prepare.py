from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from compress.errors import StageError, UsageError
from compress.quantization.calibrate import calibrate, set_quantizing
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.prepare import prepare
from compress.quantization.weighted import Weighted
from tests.quantization.networks import NETWORKS, network


@pytest.mark.parametrize("name", NETWORKS)
def test_without_rounding_it_is_the_float_network(name: str) -> None:
    module, x = network(name)
    model = prepare(module, (x[:2],))
    set_quantizing(model, False)
    for layer in model.modules():
        if isinstance(layer, Weighted):
            layer.source = ()
    with torch.no_grad():
        for batch in (x[:1], x[:7], x):  # any batch size
            assert torch.allclose(model(batch), module(batch), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_rounding_it_stays_close(name: str) -> None:
    module, x = network(name)
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x,)])
    with torch.no_grad():
        error = (model(x) - module(x)).norm() / module(x).norm()
    assert 0 < error < 0.05


def test_the_network_itself_stays_as_it_is() -> None:
    module, x = network("residual")
    before = copy.deepcopy(module.state_dict())
    model = prepare(module, (x[:2],))
    for parameter in model.parameters():
        parameter.data.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_every_convolution_and_sum_of_a_residual_network_is_int8() -> None:
    module, x = network("residual")
    model = prepare(module, (x[:2],))
    layers = [layer for layer in model.modules() if isinstance(layer, Weighted)]
    assert len(layers) == 4
    assert all(layer.bits == 8 and layer.source for layer in layers)
    # input, stem, conv1, conv2, sum, pool: the shortcut moves values and needs none, the head's output is float
    assert sum(isinstance(module, FakeQuantize) for module in model.modules()) == 6


def test_ignored_layers_stay_float_and_globs_must_match() -> None:
    module, x = network("residual")
    model = prepare(module, (x[:2],), ignore=("head.*",))
    (head,) = [layer for name, layer in model.named_modules() if isinstance(layer, Weighted) and "head" in name]
    assert head.bits is None
    with pytest.raises(UsageError, match=r"'tail\.\*' matches no module"):
        prepare(module, (x[:2],), ignore=("tail.*",))


def test_a_network_that_cannot_be_traced_is_one_message() -> None:
    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(StageError, match=r"torch\.export cannot trace the network"):
        prepare(Deciding(), (torch.ones(2, 3),))
