"""One claim, every architecture: the reader of PyTorch's graphs and the one of ONNX place int8 at the same tensors."""

from __future__ import annotations

import pytest
import torch

from compress.exporting.torch_onnx import example_inputs
from compress.quantization.exchange import link
from compress.quantization.prepare import prepare
from compress.quantization.template import template_of
from tests.architectures.table import ARCHITECTURES, deployment, inputs, made

ALWAYS = ("resnet50", "mobilenet_v2", "densenet", "bert")
EACH = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in ARCHITECTURES]


@pytest.mark.parametrize("name", EACH)
def test_both_readers_place_int8_at_the_same_tensors(name: str) -> None:
    _, module = made(name)
    given = inputs(name, 2)
    with torch.no_grad():
        described = deployment(name, module(*given))
    traced = link(prepare(module, given), described, example_inputs(described)).template
    own = template_of(traced.proto)
    assert own.layers.keys() == traced.layers.keys()
    assert {point.tensor for point in own.points} == {point.tensor for point in traced.points}
    assert {(p.tensor, p.group, p.bounds) for p in own.points} == {(p.tensor, p.group, p.bounds) for p in traced.points}
