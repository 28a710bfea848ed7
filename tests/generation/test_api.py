from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from compress.data.settings import DataSettings
from compress.errors import StageError, UsageError
from compress.generation.draft import DRAFT_FILE
from compress.generation.stage import Generate
from tests.generation.helpers import ChatServer, context_of

PRICE = {"input": 1.0, "output": 2.0}
ONE = (10 * 1.0 + 5 * 2.0) / 1e6
"""What one answer of the test's server costs."""


def asking(server: ChatServer, **more: Any) -> Generate:
    return Generate.model_validate({"address": server.address, "served_model": "m", "max_new_tokens": 8, **more})


def out_of(folder: Path) -> Path:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return out


def kept(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / DRAFT_FILE).read_text().splitlines()[1:]]


def test_every_prompt_is_asked_once_with_what_the_settings_say(questions: DataSettings, tmp_path: Path) -> None:
    with ChatServer() as server:
        metrics = asking(server, price=PRICE, batch_size=4).run({}, out_of(tmp_path), context_of(questions))
        assert len(server.seen) == 24
        first = next(body for body in server.seen)
        asked = sorted(body["messages"][0]["content"] for body in server.seen)
    found = [json.loads(line) for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines()]
    assert sorted(line["prompt"] for line in found) == asked
    assert all(line["response"].split() == line["prompt"].split()[::-1] for line in found)
    assert [line["id"] for line in found] == list(range(24))
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("m", 0.0, 8)
    assert "seed" not in first
    assert (metrics["input_tokens"], metrics["output_tokens"]) == (240, 120)
    assert metrics["cost"] == pytest.approx(24 * ONE, abs=1e-6)


def test_samples_are_asked_for_with_seeds_of_their_own(questions: DataSettings, tmp_path: Path) -> None:
    with ChatServer() as server:
        more = {"decode": "sample", "samples": 2, "temperature": 0.9, "length_key": "max_completion_tokens"}
        asking(server, **more).run({}, out_of(tmp_path), context_of(questions))
        seeds = {body["seed"] for body in server.seen}
        assert len(seeds) == len(server.seen) == 48
        assert {body["max_completion_tokens"] for body in server.seen} == {8}


def test_busy_servers_are_asked_again_and_the_file_is_the_same(questions: DataSettings, tmp_path: Path) -> None:
    tried: Counter[str] = Counter()

    def fails(number: int, prompt: str) -> int:
        """Some questions are answered at the second time only, whatever else is asked meanwhile."""
        tried[prompt] += 1
        return {0: 429, 1: 500}.get(crc32(prompt.encode()) % 5, 0) if tried[prompt] == 1 else 0

    written = []
    for name, failing in (("steady", lambda number, prompt: 0), ("shaky", fails)):
        (tmp_path / name).mkdir()
        with ChatServer(fails=failing) as server:
            asking(server, batch_size=3).run({}, tmp_path / name, context_of(questions))
            written.append(((tmp_path / name / "responses.jsonl").read_bytes(), len(server.seen)))
    assert written[0][0] == written[1][0]
    assert written[0][1] == 24 < written[1][1]


def test_what_was_received_before_a_server_broke_is_not_asked_again(questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, checkpoints=tmp_path / "draft")
    with ChatServer(fails=lambda number, prompt: 500 if number > 10 else 0) as server:
        stage = asking(server, batch_size=4, retries=1)
        with pytest.raises(StageError, match=r"status 500.*kept"):
            stage.run({}, out_of(tmp_path), context)
        assert len(kept(tmp_path / "draft")) == 10
        server.fails = lambda number, prompt: 0
        before = len(server.seen)
        metrics = stage.run({}, out_of(tmp_path), context)
        assert len(server.seen) - before == 14
    assert metrics["input_tokens"] == 240


def test_a_server_that_is_not_there_is_told(questions: DataSettings, tmp_path: Path) -> None:
    with ChatServer() as server:
        stage = asking(server, retries=0)
    with pytest.raises(StageError, match="cannot be reached"):
        stage.run({}, out_of(tmp_path), context_of(questions))


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_told_in_the_servers_words_without_the_key(
    status: int, questions: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_TEST", "sk-12345")
    context = context_of(questions, checkpoints=tmp_path / "draft")
    with ChatServer(fails=lambda number, prompt: status if number > 3 else 0) as server:
        stage = asking(server, key_variable="SECRET_OF_TEST", batch_size=1)
        with pytest.raises(UsageError) as refused:
            stage.run({}, out_of(tmp_path), context)
        assert len(server.seen) == 4
        assert server.headers[0]["authorization"] == "Bearer sk-12345"
        assert f"status {status}" in str(refused.value)
        assert "no luck with Bearer ***" in str(refused.value)
        assert len(kept(tmp_path / "draft")) == 3
        server.fails = lambda number, prompt: 0
        stage.run({}, out_of(tmp_path), context)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not any(b"sk-12345" in path.read_bytes() for path in files)


@pytest.mark.parametrize("usage", [True, False])
def test_no_request_is_made_that_could_exceed_the_limit(usage: bool, questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, checkpoints=tmp_path / "draft")
    limit = 20 * ONE
    with ChatServer(usage=usage) as server:
        with pytest.raises(StageError, match=r"max_cost.*is spent") as stopped:
            asking(server, price=PRICE, max_cost=limit, batch_size=4).run({}, out_of(tmp_path), context)
        spent = sum(entry["usage"][0] * 1.0 + entry["usage"][1] * 2.0 for entry in kept(tmp_path / "draft")) / 1e6
        asked = len(server.seen)
        assert 0 < asked == len(kept(tmp_path / "draft")) < 20
        assert limit - 150e-6 < spent <= limit
        assert f"{24 - asked} texts are missing" in str(stopped.value)
        with pytest.raises(StageError, match="max_cost"):
            asking(server, price=PRICE, max_cost=limit, batch_size=4).run({}, out_of(tmp_path), context)
        assert len(server.seen) == asked
        metrics = asking(server, price=PRICE, max_cost=1.0).run({}, out_of(tmp_path), context)
        assert len(server.seen) == 24
    if usage:
        assert metrics["cost"] == pytest.approx(24 * ONE, abs=1e-6)


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None, "completion_tokens": 5}])
def test_what_a_server_does_not_count_is_taken_as_the_most(
    usage: dict[str, Any], questions: DataSettings, tmp_path: Path
) -> None:
    context = context_of(questions, checkpoints=tmp_path / "draft")
    with ChatServer(usage=usage) as server:
        metrics = asking(server).run({}, out_of(tmp_path), context)
        prompts = sum(len(body["messages"][0]["content"].encode()) + 64 for body in server.seen)
    assert metrics["input_tokens"] == prompts
    assert metrics["output_tokens"] == 24 * (5 if usage else 8)


def test_an_answer_is_kept_though_its_reason_was_not_given(questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, checkpoints=tmp_path / "draft")
    more = {"rationale": True, "rationale_prompt": "why {response} {text}", "price": PRICE, "retries": 0}

    def fails(number: int, prompt: str) -> int:
        return 500 if prompt.startswith("why") and number > 8 else 0

    with ChatServer(fails=fails) as server:
        stage = asking(server, batch_size=2, **more)
        with pytest.raises(StageError, match=r"status 500.*kept"):
            stage.run({}, out_of(tmp_path), context)
        answered = [body["messages"][0]["content"] for body in server.seen]
        entries = {entry["id"]: entry for entry in kept(tmp_path / "draft")}
        assert len(entries) == sum(not prompt.startswith("why") for prompt in answered)
        half = [entry for entry in entries.values() if "rationale" not in entry]
        assert half and all(entry["usage"] == [10, 5] for entry in half)
        server.fails = lambda number, prompt: 0
        before = len(server.seen)
        metrics = stage.run({}, out_of(tmp_path), context)
        again = [body["messages"][0]["content"] for body in server.seen[before:]]
    assert not {prompt for prompt in again if not prompt.startswith("why")} & set(answered)
    assert len(again) == 2 * (24 - len(entries)) + len(half)
    assert (metrics["input_tokens"], metrics["output_tokens"]) == (480, 240)
    found = [json.loads(line) for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines()]
    for line in found:
        assert line["response"].split() == line["prompt"].split()[::-1]
        assert line["rationale"].split() == f"why {line['response']} {line['prompt']}".split()[::-1]


def test_a_reason_that_is_missing_counts_alone_against_the_limit(questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, checkpoints=tmp_path / "draft")
    more = {"rationale": True, "rationale_prompt": "why {text}", "price": PRICE, "retries": 0, "batch_size": 1}
    with ChatServer(fails=lambda number, prompt: 500 if prompt.startswith("why") else 0) as server:
        with pytest.raises(StageError, match="status 500"):
            asking(server, **more).run({}, out_of(tmp_path), context)
        server.fails = lambda number, prompt: 0
        (entry,) = kept(tmp_path / "draft")
        prompt = server.seen[0]["messages"][0]["content"]
        longest = (len(f"why {prompt}".encode()) + 64 + 8 * 2) / 1e6
        with pytest.raises(StageError, match=r"max_cost.*23 texts are missing"):
            asking(server, **more, max_cost=ONE + longest).run({}, out_of(tmp_path), context)
        assert [body["messages"][0]["content"] for body in server.seen[2:]] == [f"why {prompt}"]
    assert entry["id"] == kept(tmp_path / "draft")[-1]["id"]
    assert len(kept(tmp_path / "draft")) == 2
