from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.bundle import Bundle, Kind, read_bundle
from compress.config import read_pipeline
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from compress.execute import execute
from compress.models import rest
from compress.models.derive import layer_numbers, shrunk, with_layers
from compress.models.factory import Factory, build, factory_for
from compress.models.need import Need
from compress.models.settings import ModelSettings
from compress.models.stage import Build, Derive
from compress.reference import reference_markdown
from compress.stage import Context, Silent
from compress.store import Store
from compress.tasks.settings import TaskSettings
from compress.training.stage import Train
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


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))


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
    with pytest.raises(UsageError, match="layers: only transformers have layers to choose from; give resnet8 a `width`"):
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


# the stage

DIGITS = {"source": {"digits": {}}, "limit": {"train": 64, "validation": 32, "test": 32}}
VIT = {**CONFIGURATIONS["vit"], "num_hidden_layers": 4}


def digits() -> Context:
    return Context(device="cpu", threads=1, data=read_data_settings(DIGITS, Path.cwd()))


def built(folder: Path, model: dict[str, Any], context: Context) -> Bundle:
    home = folder / "teacher"
    home.mkdir()
    Build(name="teacher", model=ModelSettings.model_validate(model)).run({}, home, context)
    return Bundle(Kind.TORCH, home)


def derived(
    folder: Path, source: Bundle, context: Context, name: str = "student", **smaller: Any
) -> tuple[Bundle, dict[str, Any]]:
    out = folder / name
    out.mkdir()
    metrics = Derive(name=name, smaller=settings(**smaller)).run({"source": source}, out, context)
    return Bundle(Kind.TORCH, out), metrics


def test_the_bundle_is_read_back_bit_for_bit_and_trains(tmp_path: Path) -> None:
    context = digits()
    teacher = built(tmp_path, {"transformers": VIT}, context)
    student, metrics = derived(tmp_path, teacher, context, layers="every-other")
    module = rest.load(student.path)
    expected, _, _ = with_layers(rest.load(teacher.path), rest.read_factory(teacher.path), [0, 2])
    assert rest.state_digest(module) == rest.state_digest(expected)
    assert metrics["layers"] == [0, 2]
    assert metrics["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert metrics["size_bytes"] == (student.path / rest.WEIGHTS_FILE).stat().st_size
    assert 0 < metrics["macs"] < json.loads(json.dumps(metrics))["macs"] + 1
    assert read_bundle(student.path).deployment == read_bundle(teacher.path).deployment
    out = tmp_path / "trained"
    out.mkdir()
    log = Train(epochs=1, batch_size=32).run({"source": student}, out, context)
    assert log["training"]["steps"] == 2
    assert rest.state_digest(rest.load(out)) != rest.state_digest(module)


def test_new_weights_are_the_names_and_the_seeds(tmp_path: Path) -> None:
    context = digits()
    teacher = built(tmp_path, {"zoo": "resnet8"}, context)
    one, metrics = derived(tmp_path, teacher, context, "one", width=0.5)
    two, _ = derived(tmp_path, teacher, context, "two", width=0.5)
    assert "layers" not in metrics
    states = [rest.state_digest(rest.load(bundle.path)) for bundle in (one, two)]
    assert states[0] != states[1]
    (tmp_path / "again").mkdir()
    again, _ = derived(tmp_path / "again", teacher, context, "one", width=0.5)
    assert rest.state_digest(rest.load(again.path)) == states[0]


@pytest.mark.parametrize(
    ("model", "smaller", "says"),
    [
        ({"zoo": "resnet8"}, {"layers": 2}, "only transformers have layers"),
        ({"transformers": VIT}, {"width": 0.95}, "width: 0.95 leaves the network as large as the model"),
        ({"transformers": VIT}, {"depth": 0.9}, "depth: 0.9 leaves the network as large as the model"),
        ({"transformers": VIT}, {"layers": 9}, "layers: 9 of the 4 that there are"),
    ],
)
def test_what_cannot_be_made_names_the_model(
    model: dict[str, Any], smaller: dict[str, Any], says: str, tmp_path: Path
) -> None:
    context = digits()
    teacher = built(tmp_path, model, context)
    with pytest.raises(UsageError, match=says) as caught:
        derived(tmp_path, teacher, context, **smaller)
    assert [fault.where for fault in caught.value.faults] == ["models.student"]


def test_a_network_as_large_is_made_where_that_is_asked(tmp_path: Path) -> None:
    context = digits()
    teacher = built(tmp_path, {"transformers": VIT}, context)
    student, metrics = derived(tmp_path, teacher, context, width=1)
    assert rest.read_factory(student.path) == rest.read_factory(teacher.path)
    assert metrics["parameters"] == sum(p.numel() for p in rest.load(teacher.path).parameters())


PRUNED = """
threads: 1
data: {source: digits, limit: {train: 64, validation: 32, test: 32}}
models:
  teacher: {MODEL}
  student: {from: teacher, SMALLER}
stages:
  - train: {model: teacher, epochs: 1}
  - prune: {keep: {macs: 0.5}, recover: null}
  - distill: {model: student, teacher: train, epochs: 1}
  - export: {emit: [fp32]}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0}]
"""
_VIT_IN_YAML = json.dumps(VIT)


@pytest.mark.parametrize(
    ("model", "smaller"),
    [(f"transformers: {_VIT_IN_YAML}", "layers: 2"), ("zoo: resnet8", "width: 0.5")],
)
def test_a_pruned_teacher_is_refused_before_anything_is_trained(model: str, smaller: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PRUNED.replace("MODEL", model).replace("SMALLER", smaller))
    with pytest.raises(UsageError, match="from: the model was pruned above the first stage that reads this one") as e:
        execute(read_pipeline(file), Store(tmp_path / "store"), tmp_path / "runs", Silent())
    assert [fault.where for fault in e.value.faults] == ["models.student"]


def texts(folder: Path) -> DataSettings:
    rows = [{"s": "abc de"[: 3 + number % 4], "y": number % 2} for number in range(60)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"table": {"path": "t.jsonl", "input": "s", "target": "y"}}
    return read_data_settings({"source": source, "text": {"tokenizer": "characters", "max_length": 8}}, folder)


@pytest.mark.parametrize(("family", "task"), [("bert", "text-classification"), ("llama", "causal-lm")])
def test_a_network_that_reads_texts_keeps_its_tokenizer(family: str, task: str, tmp_path: Path) -> None:
    context = Context(device="cpu", threads=1, data=texts(tmp_path), task=TaskSettings(name=task))
    teacher = built(tmp_path, {"transformers": CONFIGURATIONS[family]}, context)
    for name, smaller in (("layers", {"layers": (0, 4)}), ("width", {"width": 0.5, "depth": 0.4})):
        student, metrics = derived(tmp_path, teacher, context, name, **smaller)
        assert (student.path / "tokenizer.json").read_bytes() == (teacher.path / "tokenizer.json").read_bytes()
        assert read_bundle(student.path).deployment == read_bundle(teacher.path).deployment
        assert metrics["parameters"] < sum(p.numel() for p in rest.load(teacher.path).parameters())


# what the pipeline does with it

PIPELINE = """
threads: 1
data: {source: digits, limit: {train: 128, validation: 32, test: 32}}
models:
  teacher: {transformers: %s}
  early: {from: teacher, layers: 2}
  late: {from: teacher, layers: 2}
stages:
  - train: {model: teacher, epochs: 1, batch_size: 32}
  - distill: {model: early, teacher: teacher, epochs: 1, batch_size: 64}
  - train: {model: teacher, epochs: 1, batch_size: 32}
  - distill: {model: late, teacher: teacher, epochs: 1, batch_size: 64}
  - export: {emit: [fp32]}
targets: [{name: local, rounds: 2, seconds: 0.01, warmup_seconds: 0}]
""" % _VIT_IN_YAML


def test_a_student_is_made_of_its_teacher_as_it_is_at_the_first_use(tmp_path: Path) -> None:
    file, store = tmp_path / "p.yaml", Store(tmp_path / "store")
    file.write_text(PIPELINE)
    outcome = execute(read_pipeline(file), store, tmp_path / "runs", Silent())
    assert outcome is not None

    def state(name: str) -> Sequence[torch.Tensor]:
        record = outcome.done[name].record
        return list(rest.load(store.artifact(record.digest)).state_dict().values())

    def head(name: str) -> torch.Tensor:
        return state(name)[-1]

    assert torch.equal(head("models.early"), head("train"))
    assert torch.equal(head("models.late"), head("train-2"))
    assert not torch.equal(head("models.early"), head("models.late"))
    assert outcome.done["models.early"].record.metrics["layers"] == [0, 3]
    names = [row["name"] for row in outcome.report["models"]]
    assert {"teacher", "early", "late"} <= set(names)


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
