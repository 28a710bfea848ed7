from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from compress.bundle import Bundle, Kind
from compress.chain import Link, Origin, linked
from compress.config import read_pipeline
from compress.data.settings import read_data_settings
from compress.distillation.stage import Distill
from compress.errors import UsageError
from compress.models import rest
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.plan import Plan, make_plan
from compress.stage import Context, Stage
from compress.training.evaluate import predict
from compress.training.finish import open_training


def test_the_student_learns_from_the_teacher_bundle(tmp_path: Path) -> None:
    context = Context(device="cpu", threads=1, data=read_data_settings("digits", Path.cwd()))
    inputs = {}
    for role, seed in (("source", "student"), ("teacher", "teacher")):
        folder = tmp_path / role
        folder.mkdir()
        Build(name=seed, model=ModelSettings(zoo="resnet8", width=0.5)).run({}, folder, context)
        inputs[role] = Bundle(Kind.TORCH, folder)
    before = rest.state_digest(rest.load(inputs["teacher"].path))
    out = tmp_path / "out"
    out.mkdir()
    stage = Distill.model_validate({"teacher": "teacher", "epochs": 2, "losses": [{"mse": {"weight": 1}}]})
    metrics = stage.run(inputs, out, context)
    assert metrics["training"]["epochs"][1]["training_loss"] < metrics["training"]["losses"][0]
    work = open_training(Bundle(Kind.TORCH, out), context)
    answers = [torch.from_numpy(predict(rest.load(path), work.data, work.data.test)) for path in (
        out, inputs["source"].path, inputs["teacher"].path)]  # fmt: skip
    assert (answers[0] - answers[2]).abs().mean() < (answers[1] - answers[2]).abs().mean()
    assert rest.state_digest(rest.load(inputs["teacher"].path)) == before


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"model": "a", "teacher": "a"}, "teacher"),
        ({"teacher": "a", "losses": [{"kl": {"weight": 0}}]}, "losses"),
        ({"teacher": "a", "schedule": "step"}, "milestones"),
        ({"teacher": ["a", "a", "b"]}, "teacher"),
        ({"model": "a", "teacher": ["b", "a"]}, "teacher"),
        ({"teacher": {"model": "a", "classes": [1]}}, "teacher"),
        ({"teacher": {"ema": 0.9}, "cache": {"views": 16}}, "cache"),
        ({"teacher": {"past": 1}, "cache": {"views": 16}}, "cache"),
        ({"teacher": {"past": 5}, "epochs": 5}, "teacher.past"),
    ],
)
def test_faults_are_found_before_any_work(settings: dict[str, object], where: str) -> None:
    assert [fault[0] for fault in Distill.model_validate(settings).faults()] == [where]


def test_a_past_that_comes_and_a_cache_that_is_off_are_no_faults() -> None:
    assert Distill.model_validate({"teacher": {"past": 5}, "epochs": 6, "cache": "off"}).faults() == []


def test_it_refers_to_both_models() -> None:
    assert Distill(teacher="t").references() == {"source": None, "teacher": "t"}
    assert Distill(model="s", teacher="t").references() == {"source": "s", "teacher": "t"}
    several = Distill.model_validate({"model": "s", "teacher": ["a", {"model": "b", "weight": 2}, "c"]})
    assert several.references() == {"source": "s", "teacher": "a", "teacher-2": "b", "teacher-3": "c"}
    assert several.accepts("teacher-3") == (Kind.TORCH,)
    assert Distill.model_validate({"teacher": {"ema": 0.9}}).references() == {"source": None}


def distill_of(settings: dict[str, Any]) -> Stage:
    return Distill.model_validate({"model": "student", **settings})


def test_all_teachers_of_a_list_are_linked() -> None:
    models = {"a": True, "b": False, "student": False}
    links = [Link("one", distill_of({"teacher": ["a", "b"]})), Link("two", distill_of({"teacher": ["a", "one"]}))]
    inputs, faults = linked(links, models)
    assert inputs == [
        {"source": Origin("student"), "teacher": Origin("a"), "teacher-2": Origin("b")},
        {"source": Origin("student", "one"), "teacher": Origin("a"), "teacher-2": Origin("student", "one")},
    ]
    assert [(position, key) for position, key, _ in faults] == [(0, "teacher")]
    assert "'b' is untrained here: train it above" in faults[0][2]


PIPELINE = """
data: digits
models:
  a: {zoo: resnet14, width: 0.25}
  b: {zoo: resnet14, width: 0.25}
  student: {zoo: resnet8, width: 0.25}
stages:
  - train: {model: a, epochs: 1}
  - train: {model: b, epochs: 1}
  - distill: {model: student, SETTINGS, epochs: 3}
  - export: {emit: [fp32]}
targets: [local]
"""


def plan_of(folder: Path, settings: str) -> Plan:
    file = folder / "pipeline.yaml"
    file.write_text(PIPELINE.replace("SETTINGS", settings))
    return make_plan(read_pipeline(file))


def key_of(folder: Path, settings: str) -> str:
    [key] = [step.key for step in plan_of(folder, settings).steps if step.stage.verb == "distill"]
    return key


def test_a_step_reads_all_its_teachers(tmp_path: Path) -> None:
    [step] = [step for step in plan_of(tmp_path, "teacher: [a, b]").steps if step.stage.verb == "distill"]
    assert step.inputs == {"source": "models.student", "teacher": "train", "teacher-2": "train-2"}


def test_shares_domains_and_the_past_are_in_the_key_and_names_are_not(tmp_path: Path) -> None:
    forms = [
        "teacher: a",
        "teacher: [a, b]",
        "teacher: [b, a]",
        "teacher: [{model: a, weight: 2}, b]",
        "teacher: [{model: a, classes: [0]}, b]",
        "teacher: [{model: a, classes: [1]}, b]",
        "teacher: [a, b], average: logits",
        "teacher: {ema: 0.9}",
        "teacher: {ema: 0.99}",
        "teacher: {past: 1}",
        "teacher: {past: 2}",
        "teacher: a, cache: off",
        "teacher: a, cache: {views: 2}",
        "teacher: a, losses: [kl]",
        "teacher: a, losses: [{kl: {weight: {first: 1, last: 0}}}]",
    ]
    keys = [key_of(tmp_path, form) for form in forms]
    assert len(set(keys)) == len(keys)
    assert key_of(tmp_path, "teacher: train") == key_of(tmp_path, "teacher: {model: a}") == keys[0]
    assert key_of(tmp_path, "teacher: [{model: a, weight: 1}, train-2]") == keys[1]
    assert key_of(tmp_path, "teacher: [a, b], average: probabilities") == keys[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("teacher: []", "distill.teacher: must be a list of at least 1 items"),
        ("teacher: [a, a]", "distill.teacher: `a` is named twice"),
        ("teacher: [a, c]", "distill.teacher: unknown model or stage 'c'"),
        ("teacher: {emma: 0.9}", "distill.teacher.emma: unknown key (did you mean 'ema'?)"),
        ("teacher: {ema: 2}", "distill.teacher.ema: must be less than 1, not 2"),
        ("teacher: {past: 0}", "distill.teacher.past: must be at least 1, not 0"),
        ("teacher: {ema: 0.9, past: 2}", "distill.teacher: give exactly one of ema"),
        ("teacher: [{model: a, wieght: 2}, b]", "distill.teacher[0].wieght: unknown key (did you mean 'weight'?)"),
        ("teacher: [{model: a, weight: 0}, b]", "distill.teacher[0].weight: must be more than 0, not 0"),
        ("teacher: {model: a, classes: [1]}", "distill.teacher: `classes` shares the examples out"),
        ("teacher: {past: 3}", "distill.teacher.past: has no effect in 3 epochs"),
        ("teacher: {ema: 0.9}, cache: {views: 16}", "distill.cache: has no effect where the student learns from its"),
        ("teacher: a, losses: [{kl: , task: {}}]", "distill.losses[0]: names exactly one loss, and here are kl, task"),
        ("teacher: 3", "distill.teacher: must be text, not 3"),
        ("teacher: student", "distill.teacher: `student` would learn from itself"),
        ("teacher: a, cache: on", "distill.cache: must be 'auto' or 'off' or a mapping, not 'on'"),
        ("teacher: a, cache: {views: 0}", "distill.cache.views: must be at least 1, not 0"),
        ("teacher: a, average: mean", "distill.average: must be 'probabilities' or 'logits', not 'mean'"),
        ("teacher: a, losses: [hitn]", "distill.losses[0]: unknown loss 'hitn' (did you mean 'hint'?)"),
        ("teacher: a, losses: [{hint: {studnet: x}}]", "losses[0].hint.studnet: unknown key (did you mean 'student'?)"),
        ("teacher: a, losses: [{kl: {}, mse: {}}]", "distill.losses[0]: names exactly one loss"),
        ("teacher: a, losses: [{kl: {weight: {first: 1}}}]", "distill.losses[0].kl.weight.last: is missing"),
    ],
)
def test_faults_say_where_and_what(tmp_path: Path, settings: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(tmp_path, settings)
    assert message in str(caught.value)
    if "ema" in settings and "emma" not in settings:
        assert len(caught.value.faults) == 1


def small(epochs: int, losses: list[Any], **settings: Any) -> Distill:
    return Distill.model_validate({"teacher": "teacher", "epochs": epochs, "losses": losses, **settings})


@pytest.fixture(scope="module")
def context() -> Context:
    data = {"source": {"digits": {}}, "limit": {"train": 128, "validation": 32, "test": 32}}
    return Context(device="cpu", threads=1, data=read_data_settings(data, Path.cwd()))


@pytest.fixture(scope="module")
def inputs(context: Context, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    found = {}
    for role, zoo in (("source", "resnet8"), ("teacher", "resnet14"), ("teacher-2", "resnet8")):
        folder = tmp_path_factory.mktemp(role)
        Build(name=role, model=ModelSettings(zoo=zoo, width=0.25)).run({}, folder, context)
        found[role] = Bundle(Kind.TORCH, folder)
    return found


def test_what_is_learnt_beside_the_student_is_not_in_the_artifact(
    inputs: dict[str, Bundle], context: Context, tmp_path: Path
) -> None:
    losses = ["hint", "review", {"crd": {"negatives": 8, "width": 8}}, "task"]
    metrics = small(1, losses).run(inputs, tmp_path, context)
    names = [rest.load(path).state_dict().keys() for path in (inputs["source"].path, tmp_path)]
    assert names[0] == names[1]
    weights = (tmp_path / "weights.safetensors").stat().st_size
    assert weights == (inputs["source"].path / "weights.safetensors").stat().st_size
    assert rest.state_digest(rest.load(tmp_path)) != rest.state_digest(rest.load(inputs["source"].path))
    assert metrics["parameters"] == sum(p.numel() for p in rest.load(tmp_path).parameters())


@pytest.mark.parametrize(
    "teacher",
    [
        ["teacher", {"model": "other", "weight": 2, "classes": [0, 1, 2]}],
        {"ema": 0.9},
        {"past": 1},
    ],
)
def test_every_form_of_teacher_trains_and_the_same_seed_gives_the_same_bytes(
    teacher: Any, inputs: dict[str, Bundle], context: Context, tmp_path: Path
) -> None:
    digests = []
    for number in range(2):
        out = tmp_path / str(number)
        out.mkdir()
        small(2, ["kl", "task"], teacher=teacher).run(inputs, out, context)
        digests.append(rest.state_digest(rest.load(out)))
    assert digests[0] == digests[1] != rest.state_digest(rest.load(inputs["source"].path))


def test_classes_of_a_teacher_must_be_those_of_the_data(
    inputs: dict[str, Bundle], context: Context, tmp_path: Path
) -> None:
    stage = small(1, ["kl"], teacher=[{"model": "teacher", "classes": ["cat"]}, "other"])
    with pytest.raises(UsageError, match=r"teacher.classes: unknown class 'cat'"):
        stage.run(inputs, tmp_path, context)
