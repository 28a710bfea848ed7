"""Canonical graphs of small networks, made once."""

from __future__ import annotations

import functools

import torch
from onnx import ModelProto
from torch.fx import GraphModule

from compress.exporting.torch_onnx import example_inputs
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.processor import WEIGHT_BITS
from tests.quantization.networks import deployment, network


@functools.cache
def canonical_graph(
    name: str, *, symmetric: bool = False, weight_bits: int = WEIGHT_BITS
) -> tuple[ModelProto, GraphModule, torch.Tensor]:
    """The canonical graph of a network of `tests.quantization.networks`, its prepared model, and examples."""
    module, x = network(name)
    model = prepare(module, (x[:2],), symmetric=symmetric, weight_bits=weight_bits)
    calibrate(model, lambda: [(x,)], "minmax")
    described = deployment(x, module(x))
    return canonical(model, described, example_inputs(described), 18), model, x
