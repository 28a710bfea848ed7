"""Networks made from others, as a stage and in a pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compress.bundle import Bundle, Kind, read_bundle
from compress.config import read_pipeline
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from compress.models import rest
from compress.models.derive import with_layers
from compress.models.settings import ModelSettings
from compress.models.stage import Build, Derive
from compress.plan import make_plan
from compress.run import run_plan
from compress.stage import Context, Silent
from compress.store import Store
from compress.tasks.settings import TaskSettings
from compress.training.stage import Train
from tests.models.text_networks import CONFIGURATIONS


def settings(**values: Any) -> ModelSettings:
    return ModelSettings.model_validate({"from": "teacher", **values})


DIGITS = {"source": {"digits": {}}, "limit": {"train": 64, "validation": 32, "test": 32}}
VIT = {
    "model_type": "vit", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "patch_size": 4,
}  # fmt: skip
STACK = "network.vit.encoder.layer"


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
    assert metrics["macs"] > 0
    assert json.loads(json.dumps(metrics)) == metrics
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
targets: [local]
"""
_VIT_IN_YAML = f"transformers: {json.dumps(VIT)}"


def test_a_pruned_zoo_network_is_refused(tmp_path: Path) -> None:
    text = PRUNED.replace("MODEL", "zoo: resnet8").replace("SMALLER", "width: 0.5")
    with pytest.raises(UsageError, match="from: the model was pruned above the first stage that reads this one") as e:
        networks_of(text, tmp_path, "build", "train", "prune", "derive")
    assert [fault.where for fault in e.value.faults] == ["models.student"]


def test_a_pruned_transformer_gives_layers_like_any_other(tmp_path: Path) -> None:
    text = PRUNED.replace("MODEL", _VIT_IN_YAML).replace("SMALLER", "layers: 2")
    found = networks_of(text, tmp_path, "build", "train", "prune", "derive")
    pruned, student = found["prune"][0], found["models.student"][0]
    wide = {name: tuple(parameter.shape) for name, parameter in pruned.named_parameters()}
    narrow = {name: tuple(parameter.shape) for name, parameter in student.named_parameters()}
    assert narrow.items() <= wide.items()
    assert len(narrow) < len(wide)
    whole = {name: tuple(parameter.shape) for name, parameter in found["train"][0].named_parameters()}
    assert wide != whole


def networks_of(text: str, folder: Path, *verbs: str) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
    """The networks, with their records, that those steps of a pipeline's plan give which have one of these verbs."""
    file, store = folder / "p.yaml", Store(folder / "store")
    file.write_text(text)
    plan = make_plan(read_pipeline(file))
    steps = tuple(step for step in plan.steps if step.stage.verb in verbs)
    done = run_plan(replace(plan, steps=steps), store, Silent())
    records = {name: one.record for name, one in done.items()}
    return {name: (rest.load(store.artifact(r.digest)), dict(r.metrics)) for name, r in records.items()}


def texts(folder: Path) -> DataSettings:
    rows = [{"s": "abc de"[: 3 + number % 4], "y": number % 2} for number in range(60)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"table": {"path": "t.jsonl", "input": "s", "target": "y"}}
    return read_data_settings({"source": source, "text": {"tokenizer": "characters", "max_length": 8}}, folder)


@pytest.mark.parametrize(("family", "task"), [("bert", "text-classification"), ("llama", "causal-lm")])
def test_a_network_that_reads_texts_keeps_its_tokenizer(family: str, task: str, tmp_path: Path) -> None:
    context = Context(device="cpu", threads=1, data=texts(tmp_path), task=TaskSettings(name=task))
    teacher = built(tmp_path, {"transformers": CONFIGURATIONS[family]}, context)
    for name, smaller in (("layers", {"layers": (1,)}), ("width", {"width": 0.5, "depth": 0.5})):
        student, metrics = derived(tmp_path, teacher, context, name, **smaller)
        assert (student.path / "tokenizer.json").read_bytes() == (teacher.path / "tokenizer.json").read_bytes()
        assert read_bundle(student.path).deployment == read_bundle(teacher.path).deployment
        assert metrics["parameters"] < sum(p.numel() for p in rest.load(teacher.path).parameters())


PIPELINE = """
threads: 1
data: {source: digits, limit: {train: 128, validation: 32, test: 32}}
models:
  teacher: {MODEL}
  early: {from: teacher, layers: 2}
  late: {from: teacher, layers: 2}
stages:
  - train: {model: teacher, epochs: 1, batch_size: 32}
  - distill: {model: early, teacher: teacher, epochs: 1, batch_size: 64}
  - train: {model: teacher, epochs: 1, batch_size: 32}
  - distill: {model: late, teacher: teacher, epochs: 1, batch_size: 64}
  - export: {emit: [fp32]}
targets: [local]
"""


def test_a_student_is_made_of_its_teacher_as_it_is_at_the_first_use(tmp_path: Path) -> None:
    found = networks_of(PIPELINE.replace("MODEL", _VIT_IN_YAML), tmp_path, "build", "train", "derive")
    assert set(found) == {"models.teacher", "train", "train-2", "models.early", "models.late"}
    for student, teacher in (("models.early", "train"), ("models.late", "train-2")):
        module, record = found[student]
        assert record["layers"] == [0, 3]
        own, theirs, stack = module.state_dict(), found[teacher][0].state_dict(), STACK
        for name, tensor in own.items():
            assert torch.equal(tensor, theirs[name.replace(f"{stack}.1.", f"{stack}.3.")]), name
    heads = [found[name][0].state_dict()["network.classifier.weight"] for name in found]
    assert len({tuple(head.flatten().tolist()) for head in heads}) == 3  # untrained, and trained once and twice
