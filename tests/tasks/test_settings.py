from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from compress.errors import UsageError
from compress.tasks.settings import TaskSettings, read_task_settings


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("image-classification", {"name": "image-classification", "arguments": {}}),
        ({"image-classification": None}, {"name": "image-classification", "arguments": {}}),
        ("regression", {"name": "regression", "arguments": {"loss": "mse"}}),
        ({"regression": {"loss": "l1"}}, {"name": "regression", "arguments": {"loss": "l1"}}),
        ({"name": "regression", "arguments": {"loss": "l1"}}, {"name": "regression", "arguments": {"loss": "l1"}}),
        ("text-classification", {"name": "text-classification", "arguments": {"metric": "accuracy"}}),
        ({"masked-lm": {"share": 0.3}}, {"name": "masked-lm", "arguments": {"share": 0.3}}),
        ({"causal-lm": {}}, {"name": "causal-lm", "arguments": {}}),
        ({"json:loads": {"s": "1"}}, {"name": "json:loads", "arguments": {"s": "1"}}),
    ],
)
def test_every_written_form(written: Any, plain: dict[str, Any]) -> None:
    settings = read_task_settings(written)
    assert settings.plain() == plain
    assert read_task_settings(plain) == settings
    assert TaskSettings.model_validate_json(settings.model_dump_json()) == settings
    if written != {"image-classification": None}:
        jsonschema.validate(written, TaskSettings.model_json_schema())


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("image-clasification", "unknown task 'image-clasification' (did you mean 'image-classification'?)"),
        ({"regression": {"loss": "l2"}}, "regression.loss: must be 'mse' or 'l1', not 'l2'"),
        ({"regression": {"los": "l1"}}, "regression.los: unknown key (did you mean 'loss'?)"),
        ({"masked-lm": {"share": 1.5}}, "masked-lm.share: must be less than 1, not 1.5"),
        ({"text-classification": {"metric": "f2"}}, "metric: must be 'accuracy', 'f1' or 'matthews', not 'f2'"),
        ({"image-classification": {"top": 5}}, "image-classification.top: unknown key"),
        ("nowhere_at_all:task", "no module named 'nowhere_at_all'"),
        ("gone.py:task", "no such file or folder"),
        ({"name": "regression", "argument": {}}, "unknown key (did you mean 'arguments'?)"),
    ],
)
def test_what_is_wrong_is_said(written: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_task_settings(written)
    assert message in str(caught.value)


def test_a_users_file_is_found_and_no_path_leaves(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def task():\n    return {}\n")
    settings = read_task_settings({"mine.py:task": {"margin": 2}}, tmp_path)
    assert settings.name == f"{file}:task"
    assert settings.plain() == {"name": "mine.py:task", "arguments": {"margin": 2}}
    assert read_task_settings(settings.plain(), tmp_path) == settings


def test_fingerprint_covers_arguments_and_source_but_no_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine.py").write_text("def task(): ...")
    one, two = (read_task_settings("mine.py:task", tmp_path / place).fingerprint() for place in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "mine.py").write_text("def task(): 1")
    seen = {
        one,
        read_task_settings("mine.py:task", tmp_path / "two").fingerprint(),
        read_task_settings({"mine.py:task": {"margin": 1}}, tmp_path / "one").fingerprint(),
        read_task_settings("regression").fingerprint(),
        read_task_settings({"regression": {"loss": "l1"}}).fingerprint(),
    }
    assert len(seen) == 5
