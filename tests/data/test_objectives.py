from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.collate import IGNORED
from compress.data.dataset import Data
from compress.data.objectives import Causal, Masked, SequenceToSequence
from compress.errors import UsageError
from tests.data.text_helpers import IDS, SENTENCES, TOKENS, labelled, opened, table, vocabulary

QUESTIONS = [{"q": "the cat sat on", "a": "the mat .", "why": "cats sat on mats", "n": number} for number in range(20)]


def asked(folder: Path, rows: list[dict[str, Any]] = QUESTIONS, **text: Any) -> Data:
    source = {"table": {"path": table(folder, rows), "input": "q", "target": "a"}}
    return opened(folder, source, {"targets": "text", **text})


def words(ids: Any) -> list[str]:
    return ["-" if number == IGNORED else TOKENS[number] for number in ids]


def test_documents_begin_and_end_and_are_learnt_token_by_token(tmp_path: Path) -> None:
    data = labelled(tmp_path).collated(Causal())
    place = data.train.raw(range(len(data.train))).index(SENTENCES[0])
    (ids, mask), targets = data.batch(data.train, [place]).inputs, data.batch(data.train, [place]).targets
    assert words(ids[0]) == ["[CLS]", "the", "cat", "sat", "[SEP]"]
    assert words(targets[0]) == ["the", "cat", "sat", "[SEP]", "-"]
    assert mask.all()
    assert data.input_names == ("input_ids", "attention_mask")


def test_a_document_that_is_cut_does_not_end(tmp_path: Path) -> None:
    data = labelled(tmp_path, max_length=4).collated(Causal())
    place = data.train.raw(range(len(data.train))).index(SENTENCES[1])
    batch = data.batch(data.train, [place])
    assert words(batch.inputs[0][0]) == ["[CLS]", "a", "dog", "sat"]
    assert words(batch.targets[0]) == ["a", "dog", "sat", "-"]


def test_of_prompt_and_answer_the_answer_is_learnt(tmp_path: Path) -> None:
    batch = (data := asked(tmp_path).collated(Causal())).batch(data.train, [0])
    assert words(batch.inputs[0][0]) == ["[CLS]", "the", "cat", "sat", "on", "the", "mat", ".", "[SEP]"]
    assert words(batch.targets[0]) == ["-", "-", "-", "-", "the", "mat", ".", "[SEP]", "-"]
    assert data.train.targets([0, 1]).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("length", "inputs", "targets"),
    [
        (7, ["[CLS]", "sat", "on", "the", "mat", ".", "[SEP]"], ["-", "-", "the", "mat", ".", "[SEP]", "-"]),
        (4, ["[CLS]", "on", "the", "mat"], ["-", "the", "mat", "-"]),
    ],
)
def test_a_prompt_loses_its_beginning_before_an_answer_its_end(
    length: int, inputs: list[str], targets: list[str], tmp_path: Path
) -> None:
    batch = (data := asked(tmp_path, max_length=length).collated(Causal())).batch(data.train, [0])
    assert (words(batch.inputs[0][0]), words(batch.targets[0])) == (inputs, targets)


def test_words_around_prompt_and_answer(tmp_path: Path) -> None:
    data = asked(tmp_path, prompt="a dog . {input}", response="a {target}").collated(Causal())
    batch = data.batch(data.train, [0])
    answer = ["a", "the", "mat", ".", "[SEP]"]
    assert words(batch.inputs[0][0]) == ["[CLS]", "a", "dog", ".", "the", "cat", "sat", "on", *answer]
    assert words(batch.targets[0]) == ["-"] * 7 + [*answer, "-"]


def test_sequence_to_sequence(tmp_path: Path) -> None:
    data = asked(tmp_path, target_max_length=3).collated(SequenceToSequence())
    batch = data.batch(data.train, [0, 1])
    assert data.input_names == ("input_ids", "attention_mask", "decoder_input_ids")
    assert words(batch.inputs[0][0]) == ["[CLS]", "the", "cat", "sat", "on", "[SEP]"]
    assert words(batch.inputs[2][0]) == ["[CLS]", "the", "mat"]
    assert words(batch.targets[0]) == ["the", "mat", "[SEP]"]


def test_rationales_are_asked_for_by_their_prefix(tmp_path: Path) -> None:
    data = asked(tmp_path, rationale="why")
    assert data.train.rationales([0]) == ["cats sat on mats"]  # type: ignore[attr-defined]
    batch = (told := data.collated(SequenceToSequence(answer="rationale", prefix="a dog "))).batch(told.train, [0])
    assert words(batch.inputs[0][0]) == ["[CLS]", "a", "dog", "the", "cat", "sat", "on", "[SEP]"]
    assert words(batch.targets[0]) == ["cat", "##s", "sat", "on", "mat", "##s", "[SEP]"]
    plain = asked(tmp_path).collated(Causal(answer="rationale"))
    with pytest.raises(UsageError, match="no rationales: name their column"):
        plain.batch(plain.train, [0])


def test_masks_change_with_the_epoch_and_are_fixed_in_evaluation(tmp_path: Path) -> None:
    data = labelled(tmp_path).collated(Masked(share=0.5))
    everything = range(len(data.train))
    still = data.batch(data.train, everything)
    np.testing.assert_array_equal(still.targets, data.batch(data.train, everything).targets)
    first, second = (data.batch(data.train, everything, (0, epoch)) for epoch in (0, 1))
    assert not np.array_equal(first.targets, second.targets)
    counted = first.targets != IGNORED
    whole = labelled(tmp_path).batch(data.train, everything).inputs[0]
    np.testing.assert_array_equal(first.targets[counted], whole[counted])
    np.testing.assert_array_equal(first.inputs[0][~counted], whole[~counted])
    assert not np.isin(first.targets, [IDS["[CLS]"], IDS["[SEP]"], IDS["[PAD]"]]).any()
    alone = data.batch(data.train, [7], (0, 1))
    length = alone.targets.shape[1]
    np.testing.assert_array_equal(alone.targets[0], second.targets[7, :length])


def test_what_an_objective_needs_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"add `text: \{targets: text\}`"):
        labelled(tmp_path).collated(SequenceToSequence())
    vocabulary(tmp_path, [token for token in TOKENS if token != "[MASK]"])
    from compress.data.open import open_data
    from compress.data.settings import read_data_settings

    source = {"table": {"path": "t.jsonl", "input": "s", "target": "y"}}
    data = open_data(
        read_data_settings({"source": source, "text": {"tokenizer": {"vocabulary": "vocab.txt"}}}, tmp_path)
    )
    with pytest.raises(UsageError, match="needs a tokenizer with a mask token"):
        data.collated(Masked())


def test_hidden_answers_cannot_be_learnt(tmp_path: Path) -> None:
    source = {"table": {"path": table(tmp_path, QUESTIONS), "input": "q", "target": "a"}}
    data = opened(tmp_path, source, {"targets": "text"}, split={"unlabelled": 0.5})
    assert data.unlabelled is not None
    assert data.text is not None
    assert data.text.prompts(data.unlabelled.raw([0])) == ["the cat sat on"]
    for collate in (Causal(), SequenceToSequence(), Causal(answer="rationale")):
        learnt = data.collated(collate)
        with pytest.raises(UsageError, match="unlabelled examples are not known"):
            learnt.batch(data.unlabelled, [0])
