from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.models import rest
from compress.models.derive import layer_numbers, shrunk, with_layers
from compress.models.factory import Factory, build, factory_for
from compress.models.need import Need
from compress.models.settings import ModelSettings
from compress.models.stage import Derive
from compress.reference import reference_markdown
from tests.models.text_networks import answer, inputs, need

DEPTH = 5
_ENCODER = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": DEPTH, "num_attention_heads": 4,
}  # fmt: skip
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **_ENCODER},
    "distilbert": {"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": DEPTH, "n_heads": 4},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": DEPTH, "n_head": 4},
    "llama": {"model_type": "llama", **_ENCODER, "num_key_value_heads": 2},
    "qwen2": {"model_type": "qwen2", **_ENCODER, "num_key_value_heads": 2},
    "modernbert": {
        "model_type": "modernbert", **_ENCODER, "global_attn_every_n_layers": 3, "local_attention": 4,
        "cls_token_id": 1, "sep_token_id": 2,
    },
    "vit": {"model_type": "vit", **_ENCODER, "patch_size": 4},
    "t5": {"model_type": "t5", "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 4, "num_heads": 4},
    "albert": {"model_type": "albert", **_ENCODER, "embedding_size": 8},
}  # fmt: skip
TASKS = {
    "bert": "text-classification", "distilbert": "masked-lm", "gpt2": "causal-lm", "llama": "causal-lm",
    "qwen2": "causal-lm", "modernbert": "masked-lm", "vit": "image-classification", "t5": "sequence-to-sequence",
    "albert": "text-classification",
}  # fmt: skip
STACKS = {
    "bert": "network.bert.encoder.layer",
    "distilbert": "network.distilbert.transformer.layer",
    "gpt2": "network.transformer.h",
    "llama": "network.model.layers",
    "qwen2": "network.model.layers",
    "modernbert": "network.model.layers",
    "vit": "network.vit.encoder.layer",
}


def made(family: str, **more: Any) -> tuple[Factory, nn.Module]:
    """A teacher whose weights are all other than those of a new network, biases and norms among them."""
    task = TASKS[family]
    wanted = Need(((1, 8, 8),), 3, task, ("input",)) if family == "vit" else need(task)
    factory = factory_for(ModelSettings(transformers={**CONFIGURATIONS[family], **more}), wanted)
    module = build(factory, 1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return factory, module


def given(family: str) -> tuple[Any, ...]:
    if family == "vit":
        return (np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32),)
    return inputs(TASKS[family], [9, 6])


def settings(**values: Any) -> ModelSettings:
    return ModelSettings.model_validate({"from": "teacher", **values})


def config_of(factory: Factory) -> dict[str, Any]:
    found: dict[str, Any] = factory.arguments["config"]
    return found


@pytest.mark.parametrize("family", STACKS)
def test_every_other_layer_is_copied_bit_for_bit_with_all_that_is_around(family: str) -> None:
    factory, teacher = made(family)
    student, smaller, chosen = with_layers(teacher, factory, "every-other")
    assert chosen == [0, 2, 4]
    own, theirs, stack = student.state_dict(), teacher.state_dict(), STACKS[family]
    origins = {f"{stack}.{place}.": f"{stack}.{number}." for place, number in enumerate(chosen)}
    seen = set()
    for name, tensor in own.items():
        prefix = next((prefix for prefix in origins if name.startswith(prefix)), "")
        source = origins.get(prefix, "") + name.removeprefix(prefix)
        assert torch.equal(tensor, theirs[source]), name
        seen.add(source)
    left_out = {name for name in theirs if name.startswith((f"{stack}.1.", f"{stack}.3."))}
    assert seen == set(theirs) - left_out
    assert left_out
    assert rest.state_digest(build(smaller)) != rest.state_digest(student)


@pytest.mark.parametrize("family", STACKS)
def test_the_student_is_the_teacher_without_the_other_layers(family: str) -> None:
    """The oracle: the teacher itself, the layers taken out of its list."""
    factory, teacher = made(family)
    student, _, _ = with_layers(teacher, factory, [0, 2])
    before = answer(teacher, given(family))
    found = answer(student, given(family))
    parent, _, name = STACKS[family].rpartition(".")
    layers: Any = teacher.get_submodule(STACKS[family])
    setattr(teacher.get_submodule(parent), name, nn.ModuleList([layers[0], layers[2]]))
    teacher.get_submodule("network").config.num_hidden_layers = 2  # type: ignore[union-attr]
    np.testing.assert_array_equal(found, answer(teacher, given(family)))
    assert np.abs(found - before).max() > 1e-3


@pytest.mark.parametrize("family", STACKS)
def test_with_all_layers_the_student_is_the_teacher(family: str) -> None:
    factory, teacher = made(family)
    student, smaller, chosen = with_layers(teacher, factory, DEPTH)
    assert chosen == list(range(DEPTH))
    assert smaller == factory
    assert rest.state_digest(student) == rest.state_digest(teacher)
    np.testing.assert_array_equal(answer(student, given(family)), answer(teacher, given(family)))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_tied_embeddings_stay_tied_and_the_network_is_bit_equal_at_rest(family: str, tmp_path: Path) -> None:
    factory, teacher = made(family, tie_word_embeddings=True)
    student, smaller, _ = with_layers(teacher, factory, 2)
    rest.save(student, smaller, tmp_path)
    back: Any = rest.load(tmp_path)
    assert rest.state_digest(back) == rest.state_digest(student)
    assert back.network.get_output_embeddings().weight is back.network.get_input_embeddings().weight
    np.testing.assert_array_equal(answer(back, given(family)), answer(student, given(family)))


def test_what_is_said_of_each_layer_follows_the_layers() -> None:
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    more = {"layer_types": types, "use_sliding_window": True, "sliding_window": 3}
    factory, teacher = made("qwen2", **more)
    student, smaller, _ = with_layers(teacher, factory, [1, 3])
    assert config_of(smaller)["layer_types"] == ["sliding_attention", "full_attention"]
    layers: Any = student.get_submodule(STACKS["qwen2"])
    assert [layer.attention_type for layer in layers] == ["sliding_attention", "full_attention"]
    assert config_of(shrunk(factory, settings(depth=0.6)))["layer_types"] == types[:3]


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        ("every-other", 12, [0, 2, 4, 6, 8, 10]),
        ("every-other", 5, [0, 2, 4]),
        ("every-other", 1, [0]),
        (1, 12, [0]),
        (2, 12, [0, 11]),
        (3, 5, [0, 2, 4]),
        (4, 12, [0, 4, 7, 11]),
        (12, 12, list(range(12))),
        ((3, 7), 8, [3, 7]),
    ],
)
def test_which_layers_are_meant(layers: Any, depth: int, expected: list[int]) -> None:
    assert layer_numbers(layers, depth) == expected


@pytest.mark.parametrize("depth", range(1, 30))
def test_numbers_of_layers_are_spread_evenly(depth: int) -> None:
    for count in range(2, depth + 1):
        found = layer_numbers(count, depth)
        steps = np.diff(found)
        assert (len(found), found[0], found[-1]) == (count, 0, depth - 1)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 2  # each number is at most half a place off
        ideal = np.arange(count) * (depth - 1) / (count - 1)
        assert np.abs(np.array(found) - ideal).max() <= 0.5


@pytest.mark.parametrize(
    ("family", "layers", "says"),
    [
        ("bert", 6, "layers: 6 of the 5 that there are"),
        ("bert", [0, 5], "layers: there is no layer 5; the model has 0 to 4"),
        ("modernbert", [1, 2], "layers: layer 1 is built otherwise than the layer 0 that it would become"),
        ("modernbert", [0, 1, 3], "layers: layer 3 is built otherwise than the layer 2"),  # global, and would be local
        ("t5", "every-other", "layers: the model has no single stack of layers"),
        ("albert", 2, "layers: the model has no single stack of layers"),
    ],
)
def test_layers_that_cannot_be_copied_are_refused(family: str, layers: Any, says: str) -> None:
    factory, teacher = made(family)
    with pytest.raises(UsageError, match=says):
        with_layers(teacher, factory, layers)


def test_an_encoder_with_a_decoder_of_another_depth_has_no_single_stack() -> None:
    factory, teacher = made("t5", num_decoder_layers=2)
    with pytest.raises(UsageError, match="no single stack"):
        with_layers(teacher, factory, 1)


def test_only_transformers_have_layers() -> None:
    factory = factory_for(ModelSettings(zoo="resnet8"), Need(((1, 8, 8),), 10, "image-classification", ("input",)))
    with pytest.raises(
        UsageError, match="layers: only transformers have layers to choose from; give resnet8 a `width`"
    ):
        with_layers(build(factory), factory, 2)
    other = Factory("python", "net.py:make")
    with pytest.raises(UsageError, match="only transformers and zoo networks can be made smaller"):
        shrunk(other, settings(width=0.5))


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("bert", {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}),
        ("distilbert", {"dim": 8, "n_heads": 2, "hidden_dim": 16, "n_layers": 2}),
        ("gpt2", {"n_embd": 8, "n_head": 2, "n_inner": None, "n_layer": 2}),
        ("vit", {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}),
        (
            "llama",
            {
                "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
                "intermediate_size": 16, "num_hidden_layers": 2,
            },
        ),
        ("t5", {"d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_decoder_layers": 2}),
    ],
)  # fmt: skip
def test_half_the_width_and_depth(family: str, expected: dict[str, Any]) -> None:
    factory, teacher = made(family)
    smaller = shrunk(factory, settings(width=0.5, depth=0.5))
    config, before = config_of(smaller), config_of(factory)
    assert {key: config[key] for key in expected} == expected
    assert {key for key in config if config[key] != before[key]} == {k for k in expected if expected[k] != before[k]}
    found = answer(build(smaller, 3).eval(), given(family))
    assert found.shape == answer(teacher, given(family)).shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("heads", "keys", "width", "expected"),
    [
        (8, 2, 0.75, (6, 2)),
        (8, 2, 0.25, (2, 1)),
        (8, 2, 0.875, (7, 1)),  # 7 heads share no 2 keys evenly
        (8, 8, 0.375, (3, 3)),
        (12, 4, 0.5, (6, 2)),
        (8, 2, 0.01, (1, 1)),
        (8, 1, 0.5, (4, 1)),
    ],
)
def test_heads_keep_their_width_and_keys_divide_them(
    heads: int, keys: int, width: float, expected: tuple[int, int]
) -> None:
    more = {"hidden_size": 4 * heads, "num_attention_heads": heads, "num_key_value_heads": keys}
    factory, _ = made("llama", **more)
    smaller = shrunk(factory, settings(width=width))
    config = config_of(smaller)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == expected
    assert config["hidden_size"] == 4 * expected[0]
    assert config["num_hidden_layers"] == DEPTH
    attention: Any = build(smaller).get_submodule("network.model.layers.0.self_attn")
    assert attention.head_dim == 4
    assert attention.k_proj.weight.shape == (4 * expected[1], 4 * expected[0])


def test_a_zoo_network_gets_fewer_channels_and_no_other_depth() -> None:
    wanted = Need(((1, 8, 8),), 10, "image-classification", ("input",))
    factory = factory_for(ModelSettings(zoo="resnet8", width=2), wanted)
    smaller = shrunk(factory, settings(width=0.25))
    assert smaller.arguments == {**factory.arguments, "width": 0.5}
    assert rest.state_digest(build(smaller, 3)) == rest.state_digest(
        build(factory_for(ModelSettings(zoo="resnet8", width=0.5), wanted), 3)
    )
    with pytest.raises(UsageError, match="depth: a network of the zoo has its depth in its name"):
        shrunk(factory, settings(depth=0.5))


def test_a_network_of_unknown_heads_has_no_width() -> None:
    swin = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "patch_size": 2}
    factory = factory_for(ModelSettings(transformers=swin), Need(((1, 8, 8),), 3, "image-classification", ("input",)))
    with pytest.raises(UsageError, match="width: how wide the network is cannot be told"):
        shrunk(factory, settings(width=0.5))
    with pytest.raises(UsageError, match="layers: the model's configuration does not say how many there are"):
        with_layers(build(factory), factory, 1)


def test_settings_travel_as_plain_data() -> None:
    for given_keys in ({"layers": "every-other"}, {"layers": 3}, {"layers": [0, 2]}, {"width": 0.5, "depth": 0.25}):
        found = settings(**given_keys)
        plain = found.model_dump(mode="json")
        assert plain["from"] == "teacher"
        assert "origin" not in plain
        assert ModelSettings.model_validate(plain) == found
        stage = Derive(name="student", smaller=found)
        assert Derive.model_validate(stage.model_dump(mode="json")) == stage
        assert Derive.model_validate_json(stage.model_dump_json()) == stage
        assert found.fingerprint() == ModelSettings.model_validate(json.loads(json.dumps(plain))).fingerprint()
    assert settings(layers=[0, 2]).layers == (0, 2)
    assert settings(layers=2).fingerprint() != settings(layers=3).fingerprint()


def test_the_reference_calls_the_key_by_its_name() -> None:
    text = reference_markdown()
    assert "| `from` | text |" in text
    assert "`origin`" not in text
