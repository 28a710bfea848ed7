"""A tiny network that reads texts, as a file, against itself in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from torch import nn

from compress.bundle import Deployment, TensorSpec
from compress.exporting.parity import run
from compress.exporting.torch_onnx import example_inputs, save, to_proto
from tests.models.text_networks import answer, inputs, made

SIZES = {"sequence": 24, "target_sequence": 24}


def deployment(module: nn.Module, task: str) -> Deployment:
    """Axes as `compress.models.deployment` names them."""
    names = {"sequence-to-sequence": ("input_ids", "attention_mask", "decoder_input_ids")}.get(
        task, ("input_ids", "attention_mask")
    )
    axes = {name: "target_sequence" if name.startswith("decoder") else "sequence" for name in names}
    size = answer(module, inputs(task, [4])).shape[-1]
    rest: tuple[int | str, ...] = (size,) if task == "text-classification" else (axes[names[-1]], size)
    return Deployment(
        task={},
        inputs=tuple(TensorSpec(name, "int64", ("batch", axes[name])) for name in names),
        outputs=(TensorSpec("output", "float32", ("batch", *rest)),),
        extra={"sizes": SIZES},
    )


def require_parity(name: str, task: str, folder: Path) -> None:
    """One file gives PyTorch's answers for several lengths, batches and paddings, and says which axes are free."""
    _, module = made(name, task)
    half = deployment(module, task)
    proto = to_proto(module, half, example_inputs(half))
    save(proto, folder / "model.onnx")
    onnx.checker.check_model(str(folder / "model.onnx"))
    for value, spec in zip([*proto.graph.input, *proto.graph.output], [*half.inputs, *half.outputs], strict=True):
        declared = tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
        assert (value.name, declared) == (spec.name, spec.shape)
    assert not any("past" in item.name or "present" in item.name for item in (*proto.graph.input, *proto.graph.output))
    for lengths, decoded in (([1], 1), ([3, 12], 4), ([24, 7, 16], 20)):
        given = inputs(task, lengths, decoded)
        feeds = dict(zip((spec.name for spec in half.inputs), given, strict=True))
        expected = answer(module, given)
        for optimize in (False, True):
            [found] = run(folder / "model.onnx", [feeds], optimize=optimize)
            np.testing.assert_allclose(found, expected, atol=1e-5)
