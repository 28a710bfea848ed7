from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from compress.data.dataset import ArraySplit, Data
from compress.distillation.terms.site import Side
from compress.errors import UsageError
from tests.distillation.networks import convolution, images, sentences, site, task_of, text


def test_a_network_is_tried_on_the_first_two_examples() -> None:
    split = ArraySplit(images(5, 16).numpy(), np.zeros(5, np.int64))
    side = Side.of("student", convolution(), Data(split, split, split))
    np.testing.assert_array_equal(side.inputs[0].numpy(), split.inputs[:2])
    assert side.shapes(["layer2"]) == {"layer2": (8, 8, 8)}


def test_points_are_stages_or_layers_unless_they_are_named() -> None:
    network = Side("teacher", convolution(), (images(2, 16),))
    assert network.points("hint", None) == ("layer1", "layer2", "layer3")
    assert network.points("hint", ("layer3",)) == ("layer3",)
    assert network.last_point("rkd", None) == "linear:input"
    assert network.last_point("rkd", "layer3") == "layer3"
    assert Side("student", text("bert"), sentences()).points("hint", None)[1] == "network.bert.encoder.layer.1"


def test_networks_without_maps_or_layers_must_have_their_modules_named() -> None:
    dense = Side("student", nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4)), (images(2, 16),))
    with pytest.raises(UsageError, match="hint finds no feature maps in the student: name its modules as `student:`"):
        dense.points("hint", None)
    with pytest.raises(UsageError, match="tinybert needs a transformer"):
        dense.needs_transformer("tinybert")


def test_a_token_sees_those_before_it_by_the_task_or_in_the_network() -> None:
    words = task_of("text-classification")
    assert not site(text("bert"), text("bert"), sentences(), words).causal
    assert site(text("gpt2"), text("gpt2"), sentences(), words).causal
    assert site(text("gpt2", "causal-lm"), text("gpt2", "causal-lm"), sentences(), task_of("causal-lm")).causal
    assert not site(convolution(), convolution(), (images(2, 16),), task_of()).causal
