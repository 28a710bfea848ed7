from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.dataset import Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.errors import UsageError

SOURCE = """
import numpy as np
import torch
from PIL import Image

def arrays(count=20):
    x = np.arange(count, dtype=np.float32)[:, None]
    return {"train": (x, (x * 2)), "test": (x[:5], x[:5]), "labels": None}

def pairs():
    return {"train": [(torch.full((2, 3), float(i)), i % 2) for i in range(20)], "labels": ["a", "b"]}

class Pictures:
    targets = [i % 2 for i in range(20)]
    def __len__(self):
        return 20
    def __getitem__(self, i):
        return Image.new("L", (4 + i, 5), i), "never looked at"

def pictures():
    return {"train": Pictures()}

def nothing():
    return None

def misspelt():
    return {"train": [(1, 2)], "tset": []}

def unequal():
    return {"train": (np.zeros((3, 1)), np.zeros(2))}

def triples():
    return {"train": [(1, 2, 3)] * 9}

def number():
    return {"train": 3}

def singles():
    return {"train": [1, 2, 3] * 9}

def class_names():
    return {"train": (np.zeros((9, 1)), ["cat", "dog", "cat"] * 3)}

def ragged_targets():
    return {"train": (np.zeros((2, 1)), [[1.0], [1.0, 2.0]])}

def targets_of_two_shapes():
    return {"train": [(1.0, [1.0]), (1.0, [1.0, 2.0])]}

def two_numbers():
    return {"train": (3, 4)}

def mixed_pairs():
    return {"train": ([("a", "b"), ("a",), ("a", "b")], [0, 1, 0])}

def pair_and_text():
    return {"train": ([("a", "b"), "ab", ("a", "b")], [0, 1, 0])}

def three_texts():
    return {"train": [(("a", "b", "c"), 1)] * 9}

def no_columns():
    return {"train": (3, 4)}

def failing(path):
    return open(path)
"""


def opened(folder: Path, function: str, source: str = SOURCE, **more: Any) -> Data:
    (folder / "mine.py").write_text(source)
    python = {"function": f"mine.py:{function}", "arguments": more.pop("arguments", {})}
    return open_data(read_data_settings({"source": {"python": python}, **more}, folder))


def test_pairs_of_arrays(tmp_path: Path) -> None:
    data = opened(tmp_path, "arrays", arguments={"count": 30})
    assert (len(data.train) + len(data.validation), len(data.test)) == (30, 5)
    batch = data.batch(data.train, range(10))
    np.testing.assert_array_equal(batch.inputs[0] * 2, batch.targets)
    assert data.input_shapes == ((1,),)


def test_sequences_of_pairs(tmp_path: Path) -> None:
    data = opened(tmp_path, "pairs")
    batch = data.batch(data.train, range(len(data.train)))
    assert (data.labels, batch.inputs[0].shape[1:]) == (("a", "b"), (2, 3))
    np.testing.assert_array_equal(batch.inputs[0][:, 0, 0] % 2, batch.targets)


def test_pictures_of_mixed_sizes_with_known_targets(tmp_path: Path) -> None:
    data = opened(tmp_path, "pictures", preprocessing=[{"resize": 4}])
    batch = data.batch(data.train, range(len(data.train)))
    assert batch.inputs[0].shape[1:] == (1, 4, 4)
    np.testing.assert_array_equal(batch.inputs[0][:, 0, 0, 0].round() % 2, batch.targets)
    assert opened(tmp_path, "pictures").preprocessing == ({"image": {"layout": "hwc"}},)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "must return a mapping with the key 'train', got NoneType None"),
        ("misspelt", "returned the key 'tset'; known: train, validation, test, labels"),
        ("unequal", "3 inputs, but 2 targets"),
        ("triples", r"item 0 must be \(input, target\), got tuple \(1, 2, 3\)"),
        ("number", r"must be \(inputs, targets\) or a sequence"),
        ("singles", r"item 0 must be \(input, target\), got int 1"),
        ("class_names", "targets must be numbers .*'cat'.*the names as `labels`"),
        ("ragged_targets", "'train': targets must all have one shape"),
        ("targets_of_two_shapes", "'train': targets must all have one shape"),
        ("two_numbers", r"inputs and targets must be arrays, got tuple \(3, 4\)"),
        ("failing", r"TypeError: failing\(\) missing 1 required positional argument: 'path'"),
        ("absent", "'absent' does not exist"),
    ],
)
def test_what_the_function_does_wrong_is_said(function: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, function)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mixed_pairs", r"must give texts, or pairs of texts.*input 1 is tuple \('a',\)"),
        ("pair_and_text", "input 1 is str 'ab'"),
        ("three_texts", "input 0 is tuple"),
        ("no_columns", "must give texts, or pairs of texts"),
    ],
)
def test_what_the_function_does_wrong_with_texts_is_said(function: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, function, text={"tokenizer": "characters"})


def test_the_users_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"FileNotFoundError.*line \d+ of .*mine\.py: return open\(path\)"):
        opened(tmp_path, "failing", arguments={"path": "/nowhere/at/all"})


def test_fingerprint_covers_source_arguments_and_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("one")

    def fingerprint(source: str = SOURCE, **more: Any) -> str:
        (tmp_path / "mine.py").write_text(source)
        python = {"function": "mine.py:arrays", **more}
        return read_data_settings({"source": {"python": python}}, tmp_path).fingerprint()

    seen = [fingerprint(), fingerprint(SOURCE + "\n#"), fingerprint(arguments={"count": 3})]
    seen.append(fingerprint(files="notes.txt"))
    (tmp_path / "notes.txt").write_text("another")
    seen.append(fingerprint(files="notes.txt"))
    assert len(set(seen)) == 5
    assert fingerprint() == seen[0]


def test_a_changed_function_is_loaded_anew(tmp_path: Path) -> None:
    assert len(opened(tmp_path, "arrays").test) == 5
    assert len(opened(tmp_path, "arrays", SOURCE.replace("x[:5]", "x[:6]")).test) == 6
