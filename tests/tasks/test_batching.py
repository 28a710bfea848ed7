from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.data.dataset import ArraySplit, Data
from compress.tasks import batching
from compress.tasks.batching import evaluation_batches, in_order
from compress.tasks.language import CausalLM, SequenceToSequence
from compress.tasks.text_classification import TextClassification
from tests.data.text_helpers import labelled, opened, table


def test_pictures_come_as_they_stand() -> None:
    split = ArraySplit(np.zeros((10, 2)), np.zeros(10, np.int64))
    batches = evaluation_batches(Data(split, split, split), split, 4)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_texts_come_in_order_of_length_and_answers_are_put_back(tmp_path: Path) -> None:
    data = labelled(tmp_path)
    lengths = data.lengths(data.train)
    assert lengths is not None
    batches = evaluation_batches(data, data.train, 7, TextClassification())
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(data.train)))
    assert (np.diff(lengths[order]) >= 0).all() and (np.diff(lengths) < 0).any()
    assert {len(batch) for batch in batches[:-1]} == {7}
    np.testing.assert_array_equal(in_order(order * 10, batches), np.arange(len(data.train)) * 10)


@pytest.mark.parametrize("limit", [1, 5_000, 20_000, 10**9])
def test_logits_of_a_batch_stay_within_memory(tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LOGITS_BYTES", limit)
    task = CausalLM()
    data = task.prepare(labelled(tmp_path, count=120))
    lengths = data.lengths(data.train)
    assert lengths is not None
    batches = evaluation_batches(data, data.train, 32, task)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(data.train)))
    for batch in batches:
        needed = len(batch) * lengths[batch].max() * task.output_size(data) * 4
        assert needed <= limit or len(batch) == 1
    if limit == 10**9:
        assert len(batches) == -(-len(data.train) // 32)


def test_what_a_decoder_says_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"q": "the cat", "a": "a dog sat on the mat . " * 5} for _ in range(40)]
    source = {"table": {"path": table(tmp_path, rows), "input": "q", "target": "a"}}
    task = SequenceToSequence()
    data = task.prepare(opened(tmp_path, source, {"targets": "text", "max_length": 40}))
    monkeypatch.setattr(batching, "LOGITS_BYTES", 40 * task.output_size(data) * 4 * 3)
    assert max(map(len, evaluation_batches(data, data.train, 32, task))) <= 3
