from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.exporting.graph import Graph
from compress.quantization.post_training.layer_rows import Geometry
from compress.quantization.template import template_of
from tests.quantization.graphs import run
from tests.quantization.post_training.layers import CASES, CONVOLUTIONS, convolution


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_times_weights_are_the_convolution(name: str) -> None:
    proto, x = convolution(name)
    template = template_of(proto)
    (layer,) = template.layers.values()
    arrays = Graph(proto.graph).arrays
    geometry = Geometry.of(proto.graph.node[0], arrays["w"], layer)
    where = geometry.rows(x, np.random.default_rng(0), 500)
    found = torch.baddbmm(
        torch.from_numpy(arrays["b"].copy()).reshape(geometry.groups, 1, -1),
        geometry.gather(x, where),
        geometry.flatten(arrays["w"]).transpose(1, 2),
    )
    expected = np.moveaxis(run(proto, "c", x=x)[0], 1, -1)[tuple(where)]  # (rows, channels)
    flat = found.transpose(0, 1).reshape(500, -1).numpy()
    assert np.abs(flat - expected).max() < 1e-4
    assert [int(w.max()) + 1 for w in where] == [len(x), *run(proto, "c", x=x)[0].shape[2:]]  # every place is looked at


@pytest.mark.parametrize("name", ["plain", "strides and uneven pads", "dilations", "groups", "depthwise"])
def test_they_are_torchs_convolution(name: str) -> None:
    _, attributes = CONVOLUTIONS[name]
    proto, x = convolution(name)
    arrays = Graph(proto.graph).arrays
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    padded = torch.nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom))
    weight, bias = torch.from_numpy(arrays["w"].copy()), torch.from_numpy(arrays["b"].copy())
    expected = torch.nn.functional.conv2d(
        padded,
        weight,
        bias,
        attributes.get("strides", 1),
        0,
        attributes.get("dilations", 1),
        attributes.get("group", 1),
    )
    (layer,) = template_of(proto).layers.values()
    geometry = Geometry.of(proto.graph.node[0], arrays["w"], layer)
    where = geometry.rows(x, np.random.default_rng(0), 200)
    rows = torch.bmm(geometry.gather(x, where), geometry.flatten(arrays["w"]).transpose(1, 2))
    found = rows.transpose(0, 1).reshape(200, -1) + bias
    assert torch.allclose(found, expected.moveaxis(1, -1)[tuple(torch.from_numpy(w) for w in where)], atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_from_rows(name: str) -> None:
    proto, _ = CASES[name](name)
    (layer,) = template_of(proto).layers.values()
    written = next(n for n in proto.graph.node if layer.product in n.output)
    weight = np.rint(Graph(proto.graph).arrays["w"] * 20)
    geometry = Geometry.of(written, weight, layer)
    assert np.array_equal(geometry.unflatten(geometry.flatten(weight)), weight.astype(np.int8))
