"""The quantized graph of a small BERT, whose biases are not zero, before any emission has fused anything."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import GraphProto, ModelProto

from compress.exporting.emissions.integer import rewrite
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.prepare import prepare
from tests.exporting.text_exports import deployment
from tests.models.text_networks import inputs, made
from tests.processor import WEIGHT_BITS
from tests.quantization.text_quantized import tensors

TASK = "text-classification"
LENGTHS = ([3], [9, 24], [16, 1, 5])


@functools.cache
def _bert() -> ModelProto:
    _, module = made("bert", TASK, num_hidden_layers=1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(len(name)))
    described = deployment(module, TASK)
    model = prepare(module, example_inputs(described, nominal=True), weight_bits=WEIGHT_BITS)
    calibrate(model, lambda: [tensors(TASK, [3, 24, 9, 16])], "minmax")
    return canonical(model, described, example_inputs(described), 18)


def quantized_bert(*, unsigned: bool = True) -> ModelProto:
    """One layer, 2 heads of 8, free batch and length; a new copy."""
    return rewrite(_bert(), unsigned=unsigned)


def answers(proto: ModelProto, folder: Path) -> npt.NDArray[np.float32]:
    """The logits of texts of several lengths with padding, (texts, classes), by the operators as they stand."""
    save(proto, folder / "model.onnx")
    feeds = [dict(zip(("input_ids", "attention_mask"), inputs(TASK, lengths), strict=True)) for lengths in LENGTHS]
    return np.concatenate(run(folder / "model.onnx", feeds, optimize=False))


def optimized(proto: ModelProto, folder: Path) -> GraphProto:
    """What ONNX Runtime makes of a graph."""
    save(proto, folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx").graph
