from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.dataset import Data
from compress.data.objectives import Causal, SequenceToSequence
from compress.data.open import open_data
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError
from compress.generation.responses import (
    Response,
    clean,
    prompts_of,
    read_responses,
    with_responses,
    write_responses,
)
from compress.training.stage import Train
from tests.generation.helpers import question_settings

PROMPTS = ["one", "two", "two", "three"]


def written(folder: Path, *lines: dict[str, Any] | str) -> Path:
    file = folder / "given.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def answers(data: Data, ids: list[int]) -> list[Response]:
    prompts = prompts_of(data)
    return [Response(number, prompts[number], f"a dog {prompts[number]}", k) for k, number in enumerate(ids)]


def test_what_is_written_is_read_again_in_the_order_of_examples(tmp_path: Path) -> None:
    given = [
        Response(1, "two", "line\nbreak \u2028 ü", 1),
        Response(0, "one", "", 0),
        Response(1, "two", '{"x"}', 0),
    ]
    write_responses(given, tmp_path)
    lines = (tmp_path / "responses.jsonl").read_bytes().decode().split("\n")
    assert lines[0] == '{"id": 0, "prompt": "one", "response": "", "sample": 0}'
    assert len(lines) == 4
    assert read_responses(tmp_path / "responses.jsonl", PROMPTS) == [given[1], given[2], given[0]]


def test_a_line_may_name_its_example_by_the_prompt_alone(tmp_path: Path) -> None:
    file = written(
        tmp_path, {"prompt": "three", "response": "x"}, "", {"id": 2, "response": "y"}, {"id": 2, "response": "z"}
    )
    assert read_responses(file, PROMPTS) == [
        Response(3, "three", "x"),
        Response(2, "two", "y", 0),
        Response(2, "two", "z", 1),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "is no JSON"),
        ({"id": 0}, 'needs a text as its "response"'),
        ({"prompt": "two", "response": "x"}, 'as its "id"'),
        ({"prompt": "four", "response": "x"}, 'as its "id"'),
        ({"id": -1, "response": "x"}, 'as its "id"'),
        ({"id": 4, "response": "x"}, "answers example 4, and there are 4"),
        ({"id": 1, "prompt": "one", "response": "x"}, "another prompt than that of example 1: 'two'"),
        ({"id": 3, "sample": 0, "response": "x"}, 'give each answer a "sample"'),
        ({"id": 0, "response": "x", "rationale": 3}, "rationale that is no text"),
    ],
)
def test_every_wrong_line_is_told_with_its_number(line: Any, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"id": 3, "response": "good"}, line)
    with pytest.raises(UsageError) as refused:
        read_responses(file, PROMPTS)
    assert said in str(refused.value)
    assert [fault.line for fault in refused.value.faults] == [2]


def test_files_without_answers_or_with_half_the_rationales_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no answers"):
        read_responses(written(tmp_path), PROMPTS)
    half = [{"id": 0, "response": "x", "rationale": "why"}, {"id": 1, "response": "x"}]
    with pytest.raises(UsageError, match="some answers have a rationale"):
        read_responses(written(tmp_path, *half), PROMPTS)
    with pytest.raises(UsageError, match="and 5 more lines"):
        read_responses(written(tmp_path, *["{"] * 15), PROMPTS)


def test_halves_of_characters_do_not_reach_a_file() -> None:
    assert clean("a\ud800b") == "a?b"


def test_the_pairs_take_the_place_of_the_training_split(questions: DataSettings) -> None:
    data = open_data(questions).collated(Causal())
    found = with_responses(data, answers(data, [3, 3, 5]))
    assert len(found.train) == 3
    prompts = prompts_of(data)
    assert found.train.raw([0, 1, 2]) == [prompts[3], prompts[3], prompts[5]]
    assert data.text is not None
    batch = found.batch(found.train, [2])
    ids = batch.inputs[0][0]
    said = data.text.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    assert said == f"{prompts[5]} a dog {prompts[5]}"
    learnt = np.where(batch.targets[0] >= 0)[0] + 1
    assert data.text.tokenizer.decode(ids[learnt].tolist(), skip_special_tokens=True) == f"a dog {prompts[5]}"
    assert found.validation is data.validation
    assert found.test is data.test
    assert found.fingerprint != data.fingerprint
    assert found.fingerprint != with_responses(data, answers(data, [3, 3, 4])).fingerprint


def test_a_decoder_learns_the_responses(questions: DataSettings) -> None:
    data = open_data(questions).collated(SequenceToSequence())
    found = with_responses(data, answers(data, [0, 1]))
    batch = found.batch(found.train, [1])
    assert data.text is not None
    said = [data.text.tokenizer.decode(row[row >= 0].tolist()) for row in (batch.inputs[0][0], batch.targets[0])]
    assert said == [prompts_of(data)[1], f"a dog {prompts_of(data)[1]}"]


def test_texts_for_other_data_are_refused(questions: DataSettings, tmp_path: Path) -> None:
    data = open_data(questions)
    with pytest.raises(UsageError, match="example 1 has another prompt"):
        with_responses(data, [Response(1, "who?", "x")])
    with pytest.raises(UsageError, match="example 99"):
        with_responses(data, [Response(99, "who?", "x")])
    with pytest.raises(UsageError, match="nothing was written"):
        with_responses(data, [])


def test_prompts_stand_in_the_words_of_the_data(tmp_path: Path) -> None:
    data = open_data(question_settings(tmp_path, prompt="why {input} :"))
    assert prompts_of(data, [1]) == [f"why {data.train.raw([1])[0]} :"]


def test_data_without_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no prompts"):
        prompts_of(open_data(read_data_settings("digits", tmp_path)))


def test_data_known_by_their_content_stay_so_with_other_texts(questions: DataSettings) -> None:
    data = replace(open_data(questions).collated(Causal()), fingerprint="")
    answers = [Response(2, prompts_of(data)[2], "the dog", rationale="because .")]
    assert with_responses(data, answers).fingerprint == ""
    assert Train(on="x", rationale_weight=1).learnt(data, None)[0].fingerprint == ""
