from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compress.distillation.layout import (
    Attention,
    embedding_point,
    matching,
    shapes_at,
    stage_points,
    transformer,
)
from compress.distillation.outputs import observe
from compress.errors import UsageError
from tests.distillation.networks import convolution, images, sentences, text

WHERE = "losses: hint.student"


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        ("layer*", ("layer1", "layer2", "layer3")),
        ("layer2", ("layer2",)),
        ("layer?.0", ("layer1.0", "layer2.0", "layer3.0")),
        ("*.conv1", ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")),
        (("layer3", "layer[12]"), ("layer3", "layer1", "layer2")),
        (("layer1", "layer*"), ("layer1", "layer2", "layer3")),
        ("*1", ("conv1", "bn1", "layer1")),
    ],
)
def test_globs_match_the_modules_nearest_to_the_root_in_their_order(
    globs: str | tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert matching(convolution(), globs, WHERE) == expected


def test_the_wrapper_of_a_language_network_need_not_be_written() -> None:
    network = text("bert")
    layers = tuple(f"network.bert.encoder.layer.{number}" for number in range(2))
    assert matching(network, "bert.encoder.layer.*", WHERE) == layers
    assert matching(network, "network.bert.encoder.layer.*", WHERE) == layers


def test_a_glob_without_a_match_names_near_modules() -> None:
    with pytest.raises(UsageError, match=r"^losses: hint.student: no module matches 'layr1' \(did you mean 'layer1'"):
        matching(convolution(), ("layer2", "layr1"), WHERE)
    with pytest.raises(UsageError, match=r"no module matches 'qqq\*'; there is .*conv1"):
        matching(convolution(), "qqq*", WHERE)
    with pytest.raises(UsageError, match=r"did you mean 'bert\.encoder\.layer\.1'"):
        matching(text("bert"), "bert.encoder.layers.1", WHERE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet8", ("layer1", "layer2", "layer3")),
        ("resnet14", ("layer1", "layer2", "layer3")),
        ("wrn_16_2", ("layer1", "layer2", "bn1")),
        ("vgg8", ("features.1", "features.5", "features.9", "features.13", "features")),
        ("mobilenet_v2", ("features.5", "features.8", "features.15", "features")),
    ],
)
def test_stages_are_the_last_modules_of_each_resolution(name: str, expected: tuple[str, ...]) -> None:
    network, inputs = convolution(name), (images(2),)
    assert stage_points(network, inputs) == expected
    sizes = [shape[1:] for shape in shapes_at(network, inputs, expected).values()]
    assert sizes == sorted(set(sizes), reverse=True)
    assert min(map(min, sizes)) > 1


def test_trying_a_network_changes_nothing_in_it() -> None:
    network, inputs = convolution().train(), (images(2),)
    network.get_submodule("layer1").eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    stage_points(network, inputs)
    shapes_at(network, inputs, ["layer1"])
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(part._forward_hooks for part in network.modules())


def test_networks_of_one_vector_have_no_stages() -> None:
    assert stage_points(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), (images(2),)) == ()


def test_the_embedding_is_what_the_last_linear_layer_reads() -> None:
    assert embedding_point(convolution("mobilenet_v2")) == "classifier:input"
    assert embedding_point(text("roberta")) == "network.classifier.out_proj:input"
    with pytest.raises(UsageError, match="no linear layer"):
        embedding_point(nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize(
    ("family", "stack", "projections", "key_heads", "rotary", "causal"),
    [
        ("bert", "bert.encoder.layer", ["attention.self.query", "attention.self.key", "attention.self.value"],
         4, False, False),
        ("roberta", "roberta.encoder.layer", ["attention.self.query", "attention.self.key", "attention.self.value"],
         4, False, False),
        ("distilbert", "distilbert.transformer.layer", ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
         4, False, False),
        ("gpt2", "transformer.h", ["attn.c_attn"], 4, False, True),
        ("llama", "model.layers", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], 2, True, True),
        ("gpt_neox", "gpt_neox.layers", ["attention.query_key_value"], 4, True, True),
    ],
)  # fmt: skip
def test_layers_of_language_networks_are_found(
    family: str, stack: str, projections: list[str], key_heads: int, rotary: bool, causal: bool
) -> None:
    head = "causal-lm" if causal else "sequence-classification"
    network = text(family, head, layers=3)
    found = transformer(network)
    assert found is not None
    assert found.layers == tuple(f"network.{stack}.{number}" for number in range(3))
    assert (found.rotary, found.causal, found.obstacle) == (rotary, causal, "")
    for layer, attention in zip(found.layers, found.attention, strict=True):
        assert attention.points == tuple(f"{layer}.{name}" for name in projections)
        assert attention.heads == 4
    seen = observe(network, sentences(), found.attention[0].points).points
    widths = [part.shape[-1] for part in found.attention[0].split(seen)]
    assert widths == [16, 4 * key_heads, 4 * key_heads]


def test_layers_of_vision_transformers_are_found() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, image_size=32, patch_size=8
    )
    network = transformers.ViTForImageClassification(config)
    found = transformer(network)
    assert found is not None
    assert found.layers == ("vit.encoder.layer.0", "vit.encoder.layer.1")
    assert found.attention[1].points[0] == "vit.encoder.layer.1.attention.attention.query"
    assert (found.attention[1].heads, found.rotary, found.causal) == (4, False, False)
    points = ("vit.encoder.layer.0:input", *found.layers)
    assert shapes_at(network, (images(2),), found.hidden(True)) == dict.fromkeys(points, (17, 16))


def test_networks_with_two_stacks_are_refused_and_others_are_no_transformers() -> None:
    with pytest.raises(UsageError, match=r"several stacks of layers \(encoder.block, decoder.block\); name"):
        transformer(text("t5", "sequence-to-sequence"))
    assert transformer(convolution()) is None


class Block(nn.Module):
    """A layer with one projection for all three, whose holder may say how many heads there are."""

    def __init__(self, heads: int | None) -> None:
        super().__init__()
        self.attn = nn.Module()
        self.attn.qkv = nn.Linear(8, 24)
        if heads is not None:
            self.attn.num_heads = heads  # type: ignore[assignment]


def test_heads_are_read_from_the_layer_itself() -> None:
    found = transformer(nn.Sequential(nn.ModuleList([Block(2), Block(4)])))
    assert found is not None
    assert [attention.heads for attention in found.attention] == [2, 4]
    assert found.layers == ("0.0", "0.1")


def test_unknown_heads_hide_the_attention_and_not_the_layers() -> None:
    found = transformer(nn.ModuleDict({"blocks": nn.ModuleList([Block(None)])}))
    assert found is not None
    assert (found.layers, found.attention) == (("blocks.0",), ())
    assert "cannot be told" in found.obstacle


def test_fused_projections_are_split_as_the_network_splits_them() -> None:
    values = np.arange(2 * 3 * 24, dtype=np.float32).reshape(2, 3, 24)
    seen = {"qkv": torch.from_numpy(values)}
    side_by_side = Attention(("qkv",), heads=2).split(seen)
    by_head = Attention(("qkv",), heads=2, by_head=True).split(seen)
    for number in range(3):
        np.testing.assert_array_equal(side_by_side[number].numpy(), values[..., 8 * number : 8 * number + 8])
        heads = [values[..., 12 * head + 4 * number : 12 * head + 4 * number + 4] for head in range(2)]
        np.testing.assert_array_equal(by_head[number].numpy(), np.concatenate(heads, axis=-1))
