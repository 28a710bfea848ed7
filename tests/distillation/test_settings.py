from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from compress.distillation.settings import DistillationRecipe, LossTerm
from compress.distillation.teacher_settings import OneTeacher, OwnPast, TeacherSettings

RESPONSE = {"standardize": False, "positions": "targets"}


@pytest.mark.parametrize(
    ("written", "name", "settings"),
    [
        ("kl", "kl", {"temperature": 4.0, "weight": 1.0, **RESPONSE}),
        ({"kl": None}, "kl", {"temperature": 4.0, "weight": 1.0, **RESPONSE}),
        ({"kl": {"temperature": 2, "weight": 0.9}}, "kl", {"temperature": 2.0, "weight": 0.9, **RESPONSE}),
        ({"cross_entropy": {"weight": 0.1}}, "cross_entropy", {"weight": 0.1, "label_smoothing": 0.0}),
        ({"mse": {}}, "mse", {"weight": 1.0, **RESPONSE}),
        ({"task": {"weight": 2}}, "task", {"weight": 2.0}),
        (
            {"task": {"weight": {"first": 1, "last": 0}}},
            "task",
            {"weight": {"first": 1.0, "last": 0.0, "begin": 0.0, "end": 1.0, "shape": "linear"}},
        ),
        (
            {"pkt": {"student": "a*", "teacher": ["b", "c"]}},
            "pkt",
            {"weight": 1.0, "student": "a*", "teacher": ("b", "c")},
        ),
    ],
)
def test_terms_are_read_in_every_form(written: Any, name: str, settings: dict[str, Any]) -> None:
    term = LossTerm.model_validate(written)
    assert (term.name, term.settings.model_dump()) == (name, settings)
    assert LossTerm.model_validate(term.model_dump(mode="json")) == term


@pytest.mark.parametrize(
    "written",
    [
        "hinton",
        {},
        {"kl": {}, "mse": {}},
        {"kl": {"temperature": 0}},
        {"kl": {"weight": -1}},
        {"kl": {"alpha": 1}},
        {"cross_entropy": {"label_smoothing": 1}},
        {"jsd": {"beta": 1}},
        {"mlkd": {"temperatures": []}},
        {"mobilebert": {"until": 0}},
        {"kl": None, "task": {}},
        {"kl": {}, "task": None},
        {"attention_transfer": {"power": 0.5}},
        {"hidden": {"embeddings": True, "layers": "last"}},
        {"hidden": {"embeddings": True, "student": "layer*"}},
        {"hidden": {"embeddings": True, "teacher": "layer*"}},
        {"hidden": {"layers": "first"}},
        {"kl": {"weight": {"first": 1}}},
        {"kl": {"weight": {"first": 1, "last": 0, "begin": 0.9, "end": 0.1}}},
        {"kl": {"positions": "some"}},
    ],
)
def test_wrong_terms_are_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        LossTerm.model_validate(written)


def test_losses_must_teach_something() -> None:
    nothing = DistillationRecipe.model_validate({"losses": [{"kl": {"weight": 0}}]})
    assert [where for where, _ in nothing.loss_faults()] == ["losses"]
    assert DistillationRecipe().loss_faults() == []
    with pytest.raises(ValidationError):
        DistillationRecipe(losses=())
    phases = {"first": 1, "last": 0, "begin": 0, "end": 0}
    assert DistillationRecipe.model_validate({"losses": [{"kl": {"weight": phases}}]}).loss_faults()
    rising = DistillationRecipe.model_validate({"losses": [{"kl": {"weight": {"first": 0, "last": 1}}}]})
    assert rising.loss_faults() == []


@pytest.mark.parametrize("name", LossTerm.model_fields)
def test_every_loss_is_read_by_its_name_alone(name: str) -> None:
    term = LossTerm.model_validate(name)
    assert (term.name, term.settings.weight) == (name, 1.0)
    assert type(term.settings).__doc__


def test_an_unknown_loss_is_told_what_is_like_it() -> None:
    with pytest.raises(ValidationError, match=r"unknown loss 'hitn' \(did you mean 'hint'\?\)"):
        LossTerm.model_validate("hitn")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a", "a"),
        ({"ema": 0.9}, OwnPast(ema=0.9)),
        ({"past": 3}, OwnPast(past=3)),
        ({"model": "a", "weight": 2}, OneTeacher(model="a", weight=2)),
        (["a", {"model": "b", "classes": ["cat", 1]}], ("a", OneTeacher(model="b", classes=("cat", 1)))),
    ],
)
def test_teachers_are_read_in_every_form(written: Any, expected: Any) -> None:
    assert TypeAdapter(TeacherSettings).validate_python(written) == expected
    assert TypeAdapter(TeacherSettings).validate_python(expected) == expected


def test_terms_without_their_dashes_are_told_so() -> None:
    with pytest.raises(ValidationError, match="names exactly one loss, and here are kl, task: give each a dash"):
        LossTerm.model_validate({"kl": None, "task": {"weight": 0.1}})
    with pytest.raises(ValidationError, match="tsk"):
        LossTerm.model_validate({"kl": None, "tsk": {}})


@pytest.mark.parametrize(
    ("beside", "message"),
    [({"layers": "last"}, "no effect with `layers: last`"), ({"student": "a*"}, "no effect where modules are named")],
)
def test_embeddings_that_would_not_count_are_refused(beside: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LossTerm.model_validate({"hidden": {"embeddings": True, **beside}})
    assert LossTerm.model_validate({"hidden": {"embeddings": True, "layers": "all"}}).name == "hidden"
    assert LossTerm.model_validate({"hidden": beside}).name == "hidden"
