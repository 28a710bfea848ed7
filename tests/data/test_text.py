"""Texts -> ids, and the batches that data make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.dataset import Data
from compress.data.text import filled
from compress.errors import UsageError
from tests.data.text_helpers import IDS, SENTENCES, labelled, opened, table


def tokens(data: Data, ids: Any) -> list[str]:
    assert data.text is not None
    return [data.text.tokenizer.id_to_token(int(number)) for number in ids]


def test_a_batch_of_texts(tmp_path: Path) -> None:
    data = labelled(tmp_path)
    raw = data.train.raw(range(len(data.train)))
    numbers = [raw.index(SENTENCES[1]), raw.index(SENTENCES[2]), raw.index("")]
    batch = data.batch(data.train, numbers)
    assert data.input_names == ("input_ids", "attention_mask")
    assert [tokens(data, row) for row in batch.inputs[0]] == [
        ["[CLS]", "a", "dog", "sat", "on", "the", "mat", ".", "[SEP]"],
        ["[CLS]", "the", "cat", "##s", "[SEP]", *["[PAD]"] * 4],
        ["[CLS]", "[SEP]", *["[PAD]"] * 7],
    ]
    assert batch.inputs[1].sum(axis=1).tolist() == [9, 5, 2]
    assert [str(array.dtype) for array in (*batch.inputs, batch.targets)] == ["int64"] * 3
    assert batch.targets.tolist() == data.train.targets(numbers).tolist()
    lengths = data.lengths(data.train)
    assert lengths is not None
    assert lengths[numbers].tolist() == [9, 5, 2]
    assert data.batch(data.train, numbers[1:2]).inputs[0].shape == (1, 5)


def test_head_subsets_and_batches_read_the_same_examples(tmp_path: Path) -> None:
    data = labelled(tmp_path)
    few = data.head(3)
    np.testing.assert_array_equal(few.batch(few.train, [2, 0]).inputs[0], data.batch(data.train, [2, 0]).inputs[0])
    assert few.fingerprint != data.fingerprint
    assert [len(batch.targets) for batch in data.batches(data.test, 4)] == [4, 4, 2]
    assert data.input_shapes == tuple(array.shape[1:] for array in data.batch(data.train, [0]).inputs)
    assert data.target_shape == ()


def test_long_texts_are_cut_inside_their_special_tokens(tmp_path: Path) -> None:
    data = labelled(tmp_path, max_length=5)
    ids, mask = data.batch(data.train, range(len(data.train))).inputs
    assert ids.shape[1] == 5
    for text, row, length in zip(data.train.raw(range(len(data.train))), ids, mask.sum(axis=1), strict=True):
        assert (row[0], row[length - 1]) == (IDS["[CLS]"], IDS["[SEP]"])
        if text == SENTENCES[1]:
            assert tokens(data, row) == ["[CLS]", "a", "dog", "sat", "[SEP]"]


def test_pairs_have_types_and_the_longer_text_is_cut_first(tmp_path: Path) -> None:
    rows = [{"one": "the cat", "two": "a dog sat on the mat .", "y": number % 2} for number in range(20)]
    source = {"table": {"path": table(tmp_path, rows), "input": ["one", "two"], "target": "y"}}
    data = opened(tmp_path, source, {"max_length": 9})
    assert data.train.raw([0]) == [("the cat", "a dog sat on the mat .")]
    ids, mask, types = data.batch(data.train, [0]).inputs
    assert data.input_names == ("input_ids", "attention_mask", "token_type_ids")
    assert tokens(data, ids[0]) == ["[CLS]", "the", "cat", "[SEP]", "a", "dog", "sat", "on", "[SEP]"]
    assert types[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert mask.all()
    shortest = opened(tmp_path, source, {"max_length": 3})
    assert shortest.batch(shortest.train, [0]).inputs[0].shape == (1, 3)


def test_special_ids_and_the_size_of_the_vocabulary(tmp_path: Path) -> None:
    text = labelled(tmp_path).text
    assert text is not None
    assert (text.pad_id, text.mask_id, text.cls_id, text.sep_id) == (0, 4, 2, 3)
    assert (text.bos_id, text.eos_id) == (2, 3)  # BERT's stand for begin and end
    assert text.vocabulary_size == 14
    assert np.flatnonzero(text.special).tolist() == [0, 1, 2, 3, 4]
    assert text.beginning == [2]


def test_words_around_texts() -> None:
    assert filled("Q: {input}\nA:", {"input": "{second} {x}", "second": "no"}) == "Q: {second} {x}\nA:"
    assert filled("{second}-{input}", {"input": "a", "second": "b"}) == "b-a"


def test_data_that_are_no_texts_cannot_be_collated_as_such() -> None:
    from compress.data.objectives import Causal
    from compress.data.open import open_data
    from compress.data.settings import read_data_settings

    data = open_data(read_data_settings("digits"))
    assert data.lengths(data.train) is None
    with pytest.raises(UsageError, match="this task needs texts"):
        data.collated(Causal())
