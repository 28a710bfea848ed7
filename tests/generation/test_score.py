"""Answers held against the data's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.dataset import Data
from compress.data.open import open_data
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from compress.generation.responses import Response, prompts_of
from compress.generation.score import scores
from compress.generation.stage import Generate
from tests.generation.helpers import ChatServer, built, context_of
from tests.generation.test_pipeline import LEARN, faults_of

NUMBERS = {"exact_match", "final_answer_match", "bleu", "rouge1", "rouge2", "rougeL"}


def targets(data: Data, split: str) -> list[str]:
    whole: Any = getattr(data, split)
    return list(whole.target_texts(np.arange(len(whole))))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


def scored(folder: Path, data: DataSettings, answers: dict[int, str], **settings: Any) -> dict[str, Any]:
    """The metrics of a file of answers, by the example's number."""
    given = folder / "given.jsonl"
    given.write_text("".join(json.dumps({"id": n, "response": text}) + "\n" for n, text in answers.items()))
    out = folder / f"out-{len(list(folder.iterdir()))}"
    out.mkdir()
    return Generate(from_file=given, score=True, **settings).run({}, out, context_of(data))


def test_the_targets_themselves_score_full_marks(questions: DataSettings, tmp_path: Path) -> None:
    wanted = targets(open_data(questions), "train")
    found = scored(tmp_path, questions, dict(enumerate(wanted)))
    three_words_make_no_run_of_four = {"bleu": 0.0}
    assert {key: found[key] for key in NUMBERS} == dict.fromkeys(NUMBERS, 1.0) | three_words_make_no_run_of_four
    assert found["texts"] == 24
    assert found["notes"][-1].startswith("of 24 answers to the train split 100.0% are the target itself")


def test_longer_targets_themselves_have_a_bleu_of_100(tmp_path: Path) -> None:
    rows = [{"q": f"how many {n}", "a": f"there are {n} of them"} for n in range(20)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"table": {"path": "t.jsonl", "input": "q", "target": "a"}}
    text = {"tokenizer": {"bpe": {"size": 261}}, "targets": "text"}
    data = read_data_settings({"source": source, "text": text}, tmp_path)
    wanted = targets(open_data(data), "train")
    assert scored(tmp_path, data, dict(enumerate(wanted)))["bleu"] == pytest.approx(100)
    assert 0 < scored(tmp_path, data, dict.fromkeys(range(5), "there are none of them"))["bleu"] < 60


def test_numbers_are_shares_of_the_texts_that_were_written(questions: DataSettings, tmp_path: Path) -> None:
    wanted = targets(open_data(questions), "test")
    assert all(len(text.split()) == 3 for text in wanted), "two words and a full stop"
    one, other = (n for n, text in enumerate(wanted) if len(set(text.split())) == 3)
    answers = {one: f"so it is. #### {wanted[one]}", other: "the zebra ."}
    found = scored(tmp_path, questions, answers, split="test")
    assert found["exact_match"] == 0
    assert found["final_answer_match"] == 0.5, "after the mark stands the target"
    # of "so it is the cat" two words of five, and all of the two wanted; of "the zebra" one of two
    first = 2 * (2 / 5) * 1 / (2 / 5 + 1)
    assert found["rouge1"] == pytest.approx((first + 0.5) / 2)
    assert found["rougeL"] == pytest.approx((first + 0.5) / 2)
    pairs = 2 * (1 / 4) * 1 / (1 / 4 + 1)
    assert found["rouge2"] == pytest.approx(pairs / 2)
    assert 0 < found["bleu"] < 60
    assert found["texts"] == 2


def test_every_one_of_several_answers_to_a_prompt_counts(questions: DataSettings) -> None:
    data = open_data(questions)
    prompt, wanted = prompts_of(data)[0], targets(data, "train")[0]
    texts = [wanted, "no", wanted, wanted]
    answers = [Response(0, prompt, text, sample) for sample, text in enumerate(texts)]
    assert scores(data, answers, "train")["exact_match"] == 0.75


@pytest.mark.parametrize(("split", "count"), [("validation", 3), ("test", 3)])
def test_a_network_answers_the_prompts_of_the_split_that_is_named(
    split: str, count: int, questions: DataSettings, tmp_path: Path
) -> None:
    context = context_of(questions)
    stage = Generate.model_validate({"max_new_tokens": 6, "split": split, "score": True})
    out = tmp_path / "out"
    out.mkdir()
    found = stage.run({"source": built(tmp_path, context)}, out, context)
    data = open_data(questions)
    assert [line["prompt"] for line in lines(out)] == prompts_of(data, split=split)
    assert len(lines(out)) == found["texts"] == count
    right = [line["response"].strip() == text for line, text in zip(lines(out), targets(data, split), strict=True)]
    assert found["exact_match"] == np.mean(right)


def test_a_server_is_asked_about_the_split_that_is_named(questions: DataSettings, tmp_path: Path) -> None:
    with ChatServer() as server:
        where = {"address": server.address, "served_model": "m", "split": "test", "score": True}
        found = Generate.model_validate(where).run({}, tmp_path, context_of(questions))
    asked = [seen["messages"][0]["content"] for seen in server.seen]
    assert sorted(asked) == sorted(prompts_of(open_data(questions), split="test"))
    assert found["exact_match"] == 0


def test_without_being_asked_nothing_is_scored(questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions)
    out = tmp_path / "out"
    out.mkdir()
    found = Generate(max_new_tokens=6).run({"source": built(tmp_path, context)}, out, context)
    assert not NUMBERS & set(found)


def test_data_without_target_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"q": f"a {n}", "a": n % 2}) + "\n" for n in range(20)))
    source = {"table": {"path": "t.jsonl", "input": "q", "target": "a"}}
    data = read_data_settings({"source": source, "text": {"tokenizer": {"bpe": {"size": 261}}}}, tmp_path)
    stage = Generate(address="http://localhost:1/v1", served_model="m", score=True)
    with pytest.raises(UsageError, match=r"name inputs and target texts \(`text: {targets: text}`\)"):
        stage.run({}, tmp_path, context_of(data))


def test_split_and_score_belong_to_what_is_asked() -> None:
    plain = Generate().asked()
    assert Generate(split="train", score=False).asked() == plain
    assert Generate(split="test").asked() == {**plain, "split": "test"}
    assert Generate(score=True).asked() == {**plain, "score": True}


def test_only_answers_to_the_training_split_are_learnt(tmp_path: Path) -> None:
    write = {"generate": {"model": "teacher", "split": "test"}, "name": "written"}
    said = faults_of(tmp_path, write, LEARN)
    assert said.endswith(
        "stages[1].train.on: 'written' answers the test split; learnt are answers to the training split"
    )
