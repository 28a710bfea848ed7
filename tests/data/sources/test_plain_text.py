from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.dataset import Data
from compress.data.objectives import Causal, Masked
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.errors import UsageError

LINES = [f"{number} is a number, {number % 7} its rest.\n" for number in range(400)]
TEXT = "".join(LINES)


def opened(folder: Path, source: Any = None, text: Any = None, **more: Any) -> Data:
    (folder / "all.txt").write_text(TEXT, encoding="utf-8")
    (folder / "test.txt").write_text("".join(LINES[::-1]), encoding="utf-8")
    settings = {"tokenizer": "characters", "max_length": 16, **(text or {})}
    value = {"source": {"plain_text": source or {"path": "all.txt"}}, "text": settings, **more}
    return open_data(read_data_settings(value, folder))


def whole(split: Any) -> str:
    return "".join(split.raw(range(len(split))))


def test_blocks_follow_the_text_and_splits_each_other(tmp_path: Path) -> None:
    data = opened(tmp_path, split={"validation": 0.1, "test": 0.2})
    texts = [whole(split) for split in (data.train, data.validation, data.test)]
    assert all(len(text) % 16 == 0 for text in texts)
    starts = [TEXT.index(text) for text in texts]
    ends = [start + len(text) for start, text in zip(starts, texts, strict=True)]
    assert starts[0] == 0
    assert all(0 <= start - end < 16 for start, end in zip([*starts[1:], len(TEXT)], ends, strict=True))
    np.testing.assert_allclose([len(text) / len(TEXT) for text in texts], [0.7, 0.1, 0.2], atol=0.01)
    assert data.train.targets([0, 1]).tolist() == [-1, -1]


def test_each_position_learns_the_next_character(tmp_path: Path) -> None:
    data = opened(tmp_path).collated(Causal())
    batch = data.batch(data.train, [5, 3])
    assert batch.inputs[0].shape == batch.targets.shape == (2, 16)
    np.testing.assert_array_equal(batch.targets[:, :-1], batch.inputs[0][:, 1:])
    assert (batch.targets[:, -1] == -100).all()
    assert batch.inputs[1].all()
    lengths = data.lengths(data.train)
    assert lengths is not None
    assert set(lengths.tolist()) == {16}


def test_files_are_splits_of_their_own_and_join_in_order(tmp_path: Path) -> None:
    data = opened(tmp_path, {"train": ["all.txt", "test.txt"], "test": "test.txt"}, split={"validation": 0.5})
    backwards = "".join(LINES[::-1])
    assert (TEXT + backwards).startswith(whole(data.train))
    assert whole(data.validation) in backwards
    assert backwards.startswith(whole(data.test))


def test_the_tokenizer_is_learnt_from_the_training_text_alone(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abc " * 200)
    (tmp_path / "other.txt").write_text("abx " * 200)
    source = {"train": "train.txt", "validation": "other.txt", "test": "other.txt"}
    data = opened(tmp_path, source)
    assert data.text is not None
    assert set(data.text.tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc "}
    assert data.batch(data.test, [0]).inputs[0][0, 2] == 1  # [UNK]


def test_a_limit_takes_blocks_and_leaves_the_tokenizer(tmp_path: Path) -> None:
    few, all_of_them = opened(tmp_path, limit={"train": 20}), opened(tmp_path)
    assert len(few.train) == 20
    assert few.text is not None
    assert all_of_them.text is not None
    assert few.text.json == all_of_them.text.json
    assert set(few.train.raw(range(20))) <= set(all_of_them.train.raw(range(len(all_of_them.train))))
    assert few.batch(few.train, [3]).inputs[0].shape == (1, 16)
    masked = few.collated(Masked())
    targets = masked.batch(masked.head(4).train, [0, 1, 2, 3]).targets
    assert (targets != -100).sum(axis=1).tolist() == [2] * 4


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        (
            None,
            {"text": {"max_length": 5000}},
            "validation split has .* tokens, under one block of",
        ),
        (None, {"text": {"targets": "text"}}, "source plain_text has no target texts"),
        (None, {"split": {"unlabelled": 0.5}}, "a plain text has no labels that could be hidden"),
        ({"path": "broken.txt"}, {}, "broken.txt is no text in UTF-8"),
        ({"path": "empty.txt"}, {}, "the train split of source plain_text has no examples"),
    ],
)
def test_what_gives_no_blocks_is_refused(source: Any, more: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe broken")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, source, **more)
