from __future__ import annotations

import http.client
import io
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from compress.data import digests
from compress.data.source_settings import Hub
from compress.data.sources.hub_revision import resolve
from compress.errors import UsageError

ONE, TWO = "1" * 40, "2" * 40


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[str]:
    asked: list[str] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        asked.append(request.full_url)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(json.dumps(answer).encode())

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_a_commit_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, {"sha": TWO})
    assert resolve("some/set", ONE) == ONE
    assert asked == []


def test_the_hub_is_asked_once_and_its_answer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, {"sha": ONE})
    assert resolve("some/set", "a/branch") == ONE
    assert asked == ["https://huggingface.co/api/datasets/some/set/revision/a%2Fbranch"]
    answering(monkeypatch, {"sha": TWO})
    assert resolve("some/set", "a/branch") == ONE
    assert resolve("some/set", "main") == TWO


def test_many_files_do_not_push_a_commit_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"sha": ONE})
    assert resolve("some/set", "main") == ONE
    monkeypatch.setattr(digests, "_MOST_REMEMBERED", 2)
    for name in "abc":
        digests.remember(name, 1)
    answering(monkeypatch, {"sha": TWO})
    assert resolve("some/set", "main") == ONE
    assert resolve("some/set", "main", "models") == TWO


def test_a_commit_that_cannot_be_kept_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    answering(monkeypatch, {"sha": ONE})
    assert resolve("some/set", "main") == ONE


def test_a_name_with_a_space_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, {"sha": ONE})
    resolve("some/set two", "main")
    assert asked == ["https://huggingface.co/api/datasets/some/set%20two/revision/main"]


def test_the_local_hub_cache_is_read_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = tmp_path / "huggingface" / "hub" / "datasets--some--set" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text(ONE)
    asked = answering(monkeypatch, {"sha": TWO})
    assert resolve("some/set", "main") == ONE
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (urllib.error.HTTPError("u", 404, "Not Found", None, None), "the hub answers 404 Not Found"),  # type: ignore[arg-type]
        (urllib.error.URLError("no route"), "cannot ask the hub what 'main' is .*no route.*write its commit"),
        (http.client.IncompleteRead(b""), "cannot ask the hub what 'main' is"),
        ({}, "names no commit"),
    ],
)
def test_without_an_answer_it_says_what_to_do(answer: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, answer)
    with pytest.raises(UsageError, match=message):
        resolve("some/set", "main")


def test_identity_holds_name_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"sha": ONE})
    identity = Hub(name="some/set", input="a", target="b").identity()
    assert (identity["name"], identity["commit"]) == ("some/set", ONE)
