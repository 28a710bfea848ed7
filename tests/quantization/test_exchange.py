from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import Tensor
from torch.fx import GraphModule

from compress.bundle import Deployment
from compress.exporting.torch_onnx import example_inputs
from compress.quantization.calibrate import calibrate
from compress.quantization.convert import canonical
from compress.quantization.exchange import Link, link
from compress.quantization.ladder import Ladder, Options
from compress.quantization.observe import Watching
from compress.quantization.outputs import OutputError
from compress.quantization.prepare import prepare
from compress.quantization.template import template_of
from tests.quantization.networks import NETWORKS, deployment, network


@functools.cache
def _linked(name: str) -> tuple[Link, Tensor, Deployment]:
    model, x, described = _prepared(name)
    return link(model, described, example_inputs(described)), x, described


def _prepared(name: str) -> tuple[GraphModule, Tensor, Deployment]:
    module, x = network(name)
    return prepare(module, (x[:2],)), x, deployment(x, module(x))


def _answers(proto: ModelProto, x: Tensor) -> np.ndarray:
    (found,) = Watching(proto, [proto.graph.output[0].name], optimize=False)({"input": x.numpy()}).values()
    return np.array(found, np.float32)


def _steps(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.abs(found - expected) / (np.ptp(expected) / 255)
    return result


@pytest.mark.parametrize("name", NETWORKS)
def test_the_float_graph_is_the_float_network(name: str) -> None:
    module, x = network(name)
    linked, _, _ = _linked(name)
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    assert np.allclose(_answers(linked.template.proto, x), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["residual", "encoder-decoder", "perceptron"])
def test_a_calibrated_network_goes_over_and_gives_the_same_answers(name: str) -> None:
    model, x, described = _prepared(name)
    calibrate(model, lambda: [(x,)], "minmax")
    expected = _answers(canonical(model, described, example_inputs(described), 18), x)
    again = link(model, described, example_inputs(described))
    assert np.mean(_steps(_answers(again.quantization().canonical, x), expected) <= 1) >= 0.999


# norms, depthwise and relu6; layers without a norm; a transposed convolution
@pytest.mark.parametrize("name", ["mobile", "perceptron", "encoder-decoder"])
def test_what_the_ladder_found_comes_back_and_gives_the_same_answers(name: str) -> None:
    linked, x, described = _linked(name)
    feeds = [{"input": x.numpy()}]
    ladder = Ladder(
        linked.template,
        lambda: feeds,
        OutputError(linked.template.proto, lambda: feeds),
        Options(method="minmax", rungs=("static", "corrected", "adaround"), adaround_iterations=20),
    )
    found = ladder.climb(lambda _: 1.0, 0.0)[-1].result
    linked.apply(found)
    expected = _answers(found.canonical, x)
    back = _answers(canonical(linked.model, described, example_inputs(described), 18), x)
    assert np.mean(_steps(back, expected) <= 1) >= 0.999
    with torch.no_grad():
        assert np.mean(_steps(linked.model(x).numpy(), expected) <= 1) >= 0.99


@pytest.mark.parametrize("name", NETWORKS)
def test_both_readers_place_int8_at_the_same_tensors(name: str) -> None:
    linked, _, _ = _linked(name)
    own = template_of(linked.template.proto)
    assert {point.tensor for point in own.points} == {point.tensor for point in linked.template.points}
    assert own.layers.keys() == linked.template.layers.keys()
    assert {(p.tensor, p.group, p.bounds) for p in own.points} == {
        (p.tensor, p.group, p.bounds) for p in linked.template.points
    }
