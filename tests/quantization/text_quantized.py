"""A small network that reads texts, made int8 once for all tests of it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.exporting.torch_onnx import example_inputs
from compress.quantization.calibrate import calibrate
from compress.quantization.prepare import prepare
from tests.exporting.text_exports import deployment
from tests.models.text_networks import inputs, made
from tests.processor import WEIGHT_BITS

ONE_LAYER = {
    "bert": {"num_hidden_layers": 1},
    "llama": {"num_hidden_layers": 1},
    "gpt2": {"n_layer": 1},
}


@functools.cache
def quantized(name: str, task: str = "text-classification") -> tuple[nn.Module, GraphModule]:
    """The float network of one layer, and the prepared one with ranges of texts of several lengths."""
    _, module = made(name, task, **ONE_LAYER[name])
    model = prepare(module, example_inputs(deployment(module, task), nominal=True), weight_bits=WEIGHT_BITS)
    calibrate(model, lambda: [tensors(task, [3, 24, 9, 16])], "minmax")
    return module, model


def tensors(task: str, lengths: list[int]) -> tuple[Tensor, ...]:
    """Texts of those lengths, as a network takes them."""
    return tuple(torch.from_numpy(array) for array in inputs(task, lengths))
