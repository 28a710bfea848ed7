"""Faults planted in emissions of small networks: each is found in the operator that has it, with both values."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch.fx import GraphModule

from compress.errors import StageError
from compress.exporting import parity
from compress.exporting.divergence_search import Divergence
from compress.exporting.divergence_torch import explain_module
from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.references import round_as
from compress.exporting.torch_onnx import example_inputs, save
from compress.quantization.convert import canonical
from tests.exporting.canonical_graphs import canonical_graph
from tests.exporting.planted import constant, four_times, planted, quantizers, removed
from tests.exporting.text_exports import deployment
from tests.quantization.text_quantized import quantized, tensors

NETWORKS = ("residual", "mobile", "encoder-decoder", "bert")
INT8 = ("ort-x86", "ort-arm", "ort-x86-avx2", "tensorrt")
SHORTCUT = "node_pad_shortcut_weight_dequantize"
REARRANGED = (SHORTCUT, "up_", "layers_up_")
"""How the names begin of operators that stand for another one together, of which a file has no tensor between them."""
"""Has no counterpart in torch, nor has what it feeds: the group of them is blamed."""


@functools.cache
def made(name: str) -> tuple[ModelProto, GraphModule, dict[str, Any]]:
    """Canonical graph, prepared model, inputs; on the grid that all emissions take."""
    if name != "bert":
        proto, model, x = canonical_graph(name, symmetric=True, weight_bits=7)
        return proto, model, {"input": x[:4].numpy()}
    module, model = quantized(name)
    described = deployment(module, "text-classification")
    given = (tensor.numpy() for tensor in tensors("text-classification", [5, 12, 3]))
    proto = canonical(model, described, example_inputs(described), 18)
    return proto, model, dict(zip(("input_ids", "attention_mask"), given, strict=True))


def emitted(name: str, emission: str) -> tuple[ModelProto, GraphModule, dict[str, Any]]:
    proto, model, feeds = made(name)
    file, model = EMISSIONS[emission](proto), copy.deepcopy(model)
    round_as(model, emission, file)
    return file, model, feeds


@pytest.mark.parametrize("emission", [*INT8, "fp32", "fp16"])
@pytest.mark.parametrize("name", NETWORKS[:3])
def test_healthy_files_raise_no_alarm(name: str, emission: str) -> None:
    file, model, feeds = emitted(name, emission)
    assert explain_module(model, file, feeds) is None


def test_a_fault_in_what_was_fused_is_found_in_the_group_that_it_is_in() -> None:
    file, model, feeds = emitted("bert", "ort-x86")
    for operator in quantizers(file)[::4]:
        found = explain_module(model, planted(file, operator, constant(1, four_times)), feeds)
        assert found is not None, operator
        assert operator in (found.operator, *found.operators), found.sentence()


@pytest.mark.parametrize("emission", ["ort-x86", "ort-arm", "fp32"])
def test_healthy_files_that_read_texts_raise_no_alarm(emission: str) -> None:
    file, model, feeds = emitted("bert", emission)
    assert explain_module(model, file, feeds) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_any_scale_times_four_is_found_where_it_is(name: str) -> None:
    file, model, feeds = emitted(name, "ort-x86")
    if name == "bert":  # without fused attention and the rows that are read alone, which leave little to compare
        file = rewrite(made(name)[0], unsigned=True)
    for operator in quantizers(file):
        found = explain_module(model, planted(file, operator, constant(1, four_times)), feeds)
        assert found is not None, operator
        several = operator.startswith(REARRANGED)
        assert operator in found.operators if several else operator == found.operator, found.sentence()


@pytest.mark.parametrize(("name", "emission"), [("residual", "tensorrt"), ("mobile", "ort-arm")])
def test_so_it_is_in_other_emissions(name: str, emission: str) -> None:
    file, model, feeds = emitted(name, emission)
    for operator in [item for item in quantizers(file) if item != SHORTCUT][::3]:
        found = explain_module(model, planted(file, operator, constant(1, four_times)), feeds)
        assert found is not None
        assert operator == found.operator, found.sentence()


def found_in_residual(operator: str, change: Any, emission: str = "ort-x86") -> Divergence:
    file, model, feeds = emitted("residual", emission)
    found = explain_module(model, planted(file, operator, change), feeds)
    assert found is not None
    assert found.operator == operator, found.sentence()
    return found


def test_both_values_are_those_of_torch_and_of_the_file() -> None:
    found = found_in_residual("conv1", lambda graph, node: node.input.pop())
    _, model, feeds = emitted("residual", "ort-x86")
    values: dict[str, torch.Tensor] = {}
    layer = model.get_submodule("layers.conv1")
    layer.register_forward_hook(lambda module, inputs, output: values.update(output=output))
    with torch.no_grad():
        model(torch.from_numpy(feeds["input"]))
    bias = layer.folded()[1].detach()  # type: ignore[operator]
    index = found.difference.index
    assert found.difference.reference == pytest.approx(float(values["output"][index]), rel=1e-5)
    assert found.difference.candidate == pytest.approx(float(values["output"][index] - bias[index[1]]), rel=1e-4)
    assert (
        f"torch has {found.difference.reference:.6g} and the file {found.difference.candidate:.6g}"
        in found.sentence("torch")
    )


@pytest.mark.parametrize(
    ("operator", "rule"),
    [
        ("relu_quantize", "nearly all are 0.25 times"),
        ("relu_dequantize", "nearly all are 4 times"),
        ("conv1.dequantize", "nearly all are 4 times"),
        ("conv1_bias_dequantize", "nearly all are 4 times"),
    ],
)
def test_a_factor_is_told(operator: str, rule: str) -> None:
    assert rule in found_in_residual(operator, constant(1, four_times)).difference.rule


def test_a_wrong_zero_point() -> None:
    change = constant(2, lambda zero_point: zero_point + 20)
    assert "nearly all are +20 steps off" in found_in_residual("layers_conv2_quantize", change).difference.rule
    assert "nearly all are -20 steps off" in found_in_residual("layers_conv2_dequantize", change).difference.rule


def test_transposed_weights() -> None:
    change = constant(0, lambda weights: weights.swapaxes(0, 1))
    assert found_in_residual("conv2.dequantize", change).difference.rule == "axes 0 and 1 are swapped"


def test_a_relu_that_is_gone() -> None:
    file, model, feeds = emitted("residual", "tensorrt")
    assert any(node.name == "node_relu_1" for node in file.graph.node)
    found = explain_module(model, planted(file, "node_relu_1", removed), feeds)
    assert found is not None
    assert found.operator == "relu_1_quantize"
    assert "as a relu or clip sets it, is missing" in found.difference.rule


def test_one_channel_of_sixteen() -> None:
    def one(scale: Any) -> Any:
        return np.where(np.arange(len(scale)) == 5, scale * 4, scale)

    assert found_in_residual("conv1.dequantize", constant(1, one)).difference.index[0] == 5


def test_a_wrong_constant_of_a_float_file() -> None:
    file, model, feeds = emitted("residual", "fp32")
    found = explain_module(model, planted(file, "conv2", constant(1, four_times)), feeds)
    assert found is not None
    assert found.operator == "conv2"


def test_parity_names_the_operator(tmp_path: Path) -> None:
    file, model, feeds = emitted("residual", "ort-x86")
    save(planted(file, "relu_1_dequantize", constant(1, four_times)), tmp_path / "model.onnx")
    with torch.no_grad():
        expected = model(torch.from_numpy(feeds["input"])).numpy()
    with pytest.raises(
        StageError, match=r"first operator to differ is 'relu_1_dequantize'.* torch has .* and the file"
    ):
        parity.check(tmp_path / "model.onnx", [feeds], [expected], integer=True, network=model)


def test_parity_says_if_no_operator_is_to_blame(tmp_path: Path) -> None:
    file, model, feeds = emitted("residual", "ort-x86")
    save(file, tmp_path / "model.onnx")
    with torch.no_grad():
        expected = model(torch.from_numpy(feeds["input"])).numpy()
    with pytest.raises(StageError, match="No operator is to blame"):
        parity.check(tmp_path / "model.onnx", [feeds], [expected + 1], integer=True, network=model)


def test_a_layer_that_is_called_twice() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.conv(torch.relu(self.conv(x)))
            return result

    from compress.quantization.calibrate import calibrate
    from compress.quantization.prepare import prepare
    from tests.quantization.networks import deployment as described

    torch.manual_seed(0)
    module, x = Twice().eval(), torch.randn(8, 3, 6, 6)
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x,)], "minmax")
    spec = described(x, module(x))
    file = EMISSIONS["ort-x86"](canonical(model, spec, example_inputs(spec), 18))
    feeds = {"input": x.numpy()}
    assert explain_module(model, file, feeds) is None
    last = next(name for name in quantizers(file) if "again" in name)
    found = explain_module(model, planted(file, last, constant(1, four_times)), feeds)
    assert found is not None
    assert found.operator == last
