from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.bundle import Kind, read_bundle
from compress.data.open import open_data
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from compress.generation.responses import prompts_of
from compress.generation.stage import Generate
from compress.models import rest
from tests.generation.helpers import GPT2, LLAMA, T5, ChatServer, built, context_of, question_settings

SHORT = {"max_new_tokens": 6, "batch_size": 5}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


def made(folder: Path, name: str = "out") -> Path:
    (folder / name).mkdir()
    return folder / name


@pytest.mark.parametrize(("task", "config"), [("causal-lm", LLAMA), ("causal-lm", GPT2), ("sequence-to-sequence", T5)])
def test_a_network_answers_every_training_prompt_in_order(
    task: str, config: dict[str, Any], questions: DataSettings, tmp_path: Path
) -> None:
    context = context_of(questions, task)
    teacher = built(tmp_path, context, config)
    out = made(tmp_path)
    metrics = Generate.model_validate(SHORT).run({"source": teacher}, out, context)
    assert read_bundle(out).kind is Kind.RESPONSES
    found = lines(out)
    assert [line["id"] for line in found] == list(range(24))
    data = open_data(questions)
    assert [line["prompt"] for line in found] == prompts_of(data)
    assert set(found[0]) == {"id", "prompt", "response", "sample"}
    assert metrics["texts"] == metrics["examples"] == 24
    # the oracle: whole forward passes, one prompt at a time
    assert data.text is not None
    text, network = data.text, rest.load(teacher.path)
    for line in found[::7]:
        asked = text.beginning + text.encode_plain([line["prompt"]])[0]
        if task == "sequence-to-sequence":
            asked = text.encode([line["prompt"]])[0][0].tolist()
        said: list[int] = []
        while len(said) < 6 and said[-1:] != [text.end_id]:
            ones = torch.ones(1, len(asked) + (0 if task == "sequence-to-sequence" else len(said)), dtype=torch.long)
            if task == "sequence-to-sequence":
                logits = network(torch.tensor([asked]), ones, torch.tensor([[text.start_id, *said]]))
            else:
                logits = network(torch.tensor([asked + said]), ones)
            said.append(int(logits[0, -1].argmax()))
        assert line["response"] == text.tokenizer.decode(said, skip_special_tokens=True)


def test_samples_are_a_function_of_seed_example_and_sample(questions: DataSettings, tmp_path: Path) -> None:
    stage = Generate.model_validate({**SHORT, "decode": "sample", "temperature": 3.0, "samples": 2})
    context = context_of(questions)
    teacher = built(tmp_path, context)
    written = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        out = made(tmp_path, name)
        stage.run({"source": teacher}, out, context_of(questions, seed=seed))
        written.append((out / "responses.jsonl").read_bytes())
    assert written[0] == written[1] != written[2]
    found = lines(tmp_path / "one")
    assert [(line["id"], line["sample"]) for line in found] == [(i, k) for i in range(24) for k in range(2)]
    assert sum(one["response"] != other["response"] for one, other in zip(found[::2], found[1::2], strict=True)) > 12


def test_the_teacher_is_asked_why_in_words_that_hold_its_answer(questions: DataSettings, tmp_path: Path) -> None:
    asked = {"rationale": True, "rationale_prompt": "why {text} : {response}", "prompt": "answer : {text}"}
    with ChatServer() as server:
        out = made(tmp_path)
        where = {"address": server.address, "served_model": "m"}
        Generate.model_validate({**asked, **where}).run({}, out, context_of(questions))
    first = lines(out)[0]
    turned = " ".join(reversed(f"answer : {first['prompt']}".split()))
    assert first["response"] == turned
    assert first["rationale"] == " ".join(reversed(f"why {first['prompt']} : {turned}".split()))
    context = context_of(questions)
    out = made(tmp_path, "own")
    Generate.model_validate({**SHORT, **asked}).run({"source": built(tmp_path, context)}, out, context)
    assert all(set(line) == {"id", "prompt", "response", "rationale", "sample"} for line in lines(out))


def test_a_rehearsal_writes_two_texts_and_asks_no_server(questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, rehearsal=True)
    out = made(tmp_path)
    Generate.model_validate({"max_new_tokens": 12}).run({"source": built(tmp_path, context)}, out, context)
    assert len(lines(out)) == 2
    with ChatServer() as server:
        out = made(tmp_path, "asked")
        stage = {"address": server.address, "served_model": "m", "key_variable": "NO_SUCH_KEY"}
        with pytest.raises(UsageError, match="NO_SUCH_KEY"):
            Generate.model_validate(stage).run({}, out, context)
        Generate.model_validate({**stage, "key_variable": None, "rationale": True}).run({}, out, context)
        assert len(lines(out)) == 2
        assert server.seen == []


def test_a_file_is_checked_and_copied_in_order(questions: DataSettings, tmp_path: Path) -> None:
    prompts = prompts_of(open_data(questions))
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps({"id": n, "response": f"x {n}"}) + "\n" for n in (7, 3)))
    metrics = Generate(from_file=given).run({}, out := made(tmp_path), context_of(questions))
    assert lines(out) == [{"id": n, "prompt": prompts[n], "response": f"x {n}", "sample": 0} for n in (3, 7)]
    assert metrics["examples"] == 2
    given.write_text('{"id": 700, "response": "x"}')
    with pytest.raises(UsageError, match="answers example 700"):
        Generate(from_file=given).run({}, out, context_of(questions))


@pytest.mark.parametrize("task", ["causal-lm", "sequence-to-sequence"])
def test_answers_that_do_not_fit_are_refused(task: str, questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions, task)
    with pytest.raises(UsageError, match="max_new_tokens: 64"):
        Generate().run({"source": built(tmp_path, context)}, made(tmp_path), context)


def test_the_words_around_a_target_are_taken_off(tmp_path: Path) -> None:
    from compress.generation.writer import unwrapped

    assert unwrapped("so: 42.", "so: {target}.") == "42"
    assert unwrapped("so: 42", "so: {target}") == "42"
    assert unwrapped("42", "so: {target}.") == "42"
    assert unwrapped("so: 42.", None) == "so: 42."


def test_data_without_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no prompts"):
        context = context_of(read_data_settings("digits", tmp_path))
        Generate(address="http://localhost:1/v1", served_model="m").run({}, made(tmp_path), context)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"address": "http://x/v1"}, ["served_model"]),
        ({"served_model": "m"}, ["served_model"]),
        ({"model": "a", "address": "http://x/v1", "served_model": "m"}, ["address"]),
        ({"address": "http://x/v1", "served_model": "m", "decode": "beam"}, ["decode"]),
        ({"address": "http://x/v1", "served_model": "m", "max_cost": 1.0}, ["max_cost"]),
        ({"beams": 3}, ["beams"]),
        ({"temperature": 0.5, "samples": 3}, ["temperature", "samples"]),
        ({"decode": "sample", "samples": 3, "top_p": 0.9}, []),
        ({"prompt": "no place"}, ["prompt"]),
        ({"rationale_prompt": "why {text}"}, ["rationale_prompt"]),
        ({"from_file": __file__, "max_new_tokens": 3}, ["max_new_tokens"]),
        ({"from_file": str(Path(__file__).parent)}, ["from_file"]),
        ({"max_cost": 1.0, "price": {"input": 1}}, ["max_cost", "price"]),
    ],
)
def test_faults_are_found_before_any_work(settings: dict[str, Any], where: list[str]) -> None:
    assert [fault[0] for fault in Generate.model_validate(settings).faults()] == where


def test_what_does_not_change_the_texts_is_not_asked_for(tmp_path: Path) -> None:
    asked = {"address": "http://x/v1", "served_model": "m"}
    plain = Generate.model_validate(asked)
    cheap = {"max_cost": 2.0, "price": {"output": 0.6}, "retries": 1, "batch_size": 3, "key_variable": "KEY"}
    assert Generate.model_validate({**asked, **cheap}).asked() == plain.asked()
    assert Generate.model_validate({**asked, "prompt": "{text}?"}).asked() != plain.asked()
    assert Generate(batch_size=3).asked() != Generate().asked()
    assert (set(plain.reads), set(Generate().reads)) == ({"data"}, {"data", "threads"})
    assert Generate.model_validate({**asked, "decode": "sample"}).reads == {"data", "seed"}
    file = tmp_path / "x.jsonl"
    file.write_text("{}")
    content = hashlib.sha256(b"{}").hexdigest()
    assert Generate(from_file=file).asked() == {"content": content}
    assert Generate(from_file=file).reads == {"data"}


def test_only_a_model_of_the_pipeline_is_referred_to() -> None:
    assert Generate().references() == {"source": None}
    assert Generate(model="t").references() == {"source": "t"}
    assert Generate(address="http://x/v1", served_model="m").references() == {}


def test_a_prompt_that_is_too_long_keeps_its_end(tmp_path: Path) -> None:
    settings = question_settings(tmp_path, max_length=8)
    context = context_of(settings)
    out = made(tmp_path)
    stage = Generate(max_new_tokens=5, prompt="the cat sat on a mat {text}")
    metrics = stage.run({"source": built(tmp_path, context)}, out, context)
    assert metrics["texts"] == 24
