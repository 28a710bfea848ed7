from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from tests.data.text_helpers import TOKENS, vocabulary


def whole(folder: Path, text: Any, **more: Any) -> dict[str, Any]:
    (folder / "t.csv").write_text("s,y\na,0\n")
    return {"source": {"table": {"path": "t.csv", "input": "s", "target": "y"}}, "text": text, **more}


def read(folder: Path, text: Any, **more: Any) -> DataSettings:
    return read_data_settings(whole(folder, text, **more), folder)


@pytest.mark.parametrize(
    "tokenizer",
    [
        {"vocabulary": "vocab.txt"},
        {"vocabulary": "vocab.txt", "lowercase": False},
        "tokenizer.json",
        ".",
        "some/model",
        "model",
        {"name": "some/model", "revision": "v1"},
        "characters",
        {"characters": None},
        {"characters": {}},
        {"bpe": {"size": 300}},
        "bpe",
    ],
)
def test_every_form_is_read_and_survives_json(tokenizer: Any, tmp_path: Path) -> None:
    vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    value = whole(tmp_path, {"tokenizer": tokenizer})
    settings = read_data_settings(value, tmp_path)
    assert DataSettings.model_validate_json(settings.model_dump_json()) == settings
    jsonschema.validate(json.loads(json.dumps(value)), DataSettings.model_json_schema())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"tokenizer": {"wordpiece": "x"}}, "text.tokenizer.wordpiece: unknown key"),
        ({"tokenizer": 3}, "text.tokenizer: must be a mapping, not 3"),
        ({"tokenizer": {}}, "give exactly one tokenizer, got none; known: vocabulary, path, name, characters, bpe"),
        ({"tokenizer": {"characters": {}, "bpe": {}}}, "give exactly one tokenizer, got characters, bpe"),
        ({"tokenizer": "gone/tokenizer.json"}, "no such file or folder"),
        ({"tokenizer": "a/b/c"}, "no such file or folder"),
        ({"tokenizer": "empty"}, "empty holds no tokenizer: none of tokenizer.json"),
        ({"tokenizer": "vocab.txt"}, "a list of tokens is named `tokenizer: {vocabulary: vocab.txt}`"),
        ({"tokenizer": "t.csv"}, "t.csv is no tokenizer: name a tokenizer.json"),
        ({"tokenizer": {"bpe": {"size": 260}}}, "text.tokenizer.bpe.size: must be at least 261"),
        ({"tokenizer": {"characters": {}, "lowercase": False}}, "lowercase is for `vocabulary`"),
        ({"tokenizer": {"characters": {}, "revision": "v1"}}, "revision is for `name`"),
        ({"tokenizer": "characters", "max_length": 2}, "text.max_length: must be at least 3"),
        ({"tokenizer": "characters", "prompt": "{input}"}, "prompt is for `targets: text`"),
        ({"tokenizer": "characters", "rationale": "why"}, "rationale is for `targets: text`"),
        (
            {"tokenizer": "characters", "targets": "text", "prompt": "Q:"},
            "prompt must say where the text stands",
        ),
        ({"tokenizer": "characters", "targets": "txt"}, "(did you mean 'text'?)"),
        ({}, "text.tokenizer: is missing"),
    ],
)
def test_what_is_wrong_is_said(text: Any, message: str, tmp_path: Path) -> None:
    vocabulary(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocessing": [{"scale": 2}]}, "texts have neither preprocessing nor augmentation"),
        ({"augmentation": ["flip"]}, "texts have neither preprocessing nor augmentation"),
        ({"source": "digits"}, "source digits has no texts: remove `text:`"),
        ({"text": None, "source": {"plain_text": {"path": "t.csv"}}}, "add `text: {tokenizer: ...}`"),
        ({"text": None, "source": {"table": {"path": "t.csv", "input": "s"}}}, "source.table.target is missing"),
        ({"split": {"unlabelled": 1}}, "split.unlabelled: must be less than 1"),
    ],
)
def test_what_does_not_go_together_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    value = {**whole(tmp_path, {"tokenizer": "characters"}), **change}
    with pytest.raises(UsageError) as caught:
        read_data_settings(value, tmp_path)
    assert message in str(caught.value)


def test_the_fingerprint_covers_the_tokenizer_and_every_setting_not_places(tmp_path: Path) -> None:
    def fingerprint(folder: str, tokens: list[str] = TOKENS, tokenizer: Any = None, **more: Any) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        vocabulary(tmp_path / folder, tokens)
        text = {"tokenizer": tokenizer or {"vocabulary": "vocab.txt"}, **more}
        return read(tmp_path / folder, text).fingerprint()

    first = fingerprint("one")
    assert fingerprint("two") == first
    other = [
        fingerprint("three", [*TOKENS, "more"]),
        fingerprint("one", tokenizer={"vocabulary": "vocab.txt", "lowercase": False}),
        fingerprint("one", tokenizer="characters"),
        fingerprint("one", tokenizer={"bpe": {"size": 300}}),
        fingerprint("one", tokenizer={"bpe": {"size": 301}}),
        fingerprint("one", max_length=64),
        fingerprint("one", targets="text"),
        fingerprint("one", targets="text", response="{target}."),
        read(tmp_path, {"tokenizer": "characters"}, split={"unlabelled": 0.5}).fingerprint(),
    ]
    assert len({first, *other}) == 10
    assert fingerprint("one", [*TOKENS, "new"]) not in (first, other[0])


def test_of_a_folder_what_says_how_to_tokenize_counts(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    first = read(tmp_path, {"tokenizer": "model"}).fingerprint()
    (folder / "model.safetensors").write_text("other weights")
    assert read(tmp_path, {"tokenizer": "model"}).fingerprint() == first
    (folder / "tokenizer_config.json").write_text("{}")
    assert read(tmp_path, {"tokenizer": "model"}).fingerprint() != first


def test_other_data_keep_their_fingerprints() -> None:
    settings = read_data_settings("digits")
    assert "text" not in settings.model_dump(exclude_none=True)
    assert settings.fingerprint() == read_data_settings({**settings.model_dump(mode="json")}).fingerprint()
