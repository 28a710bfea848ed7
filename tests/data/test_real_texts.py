"""The shipped settings of texts on the real files."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from compress.data.dataset import Data
from compress.data.objectives import Causal, Masked
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from tests.data.text_helpers import FOLDER, real

pytestmark = real


def opened(name: str) -> Data:
    return open_data(read_data_settings(name))


def rows(file: Path) -> list[list[str]]:
    """A file's rows after its header; tabs without quotes, commas with."""
    if file.suffix == ".tsv":
        return [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))[1:]


def test_sst2() -> None:
    data = opened("sst2")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [67_349, 872, 1_821]
    for split, name in ((data.train, "train_full"), (data.validation, "dev"), (data.test, "test-labeled")):
        expected = rows(FOLDER / "sst2" / f"{name}.tsv")
        everything = np.arange(len(split))
        assert split.raw(everything) == [row[0] for row in expected]
        assert split.targets(everything).tolist() == [int(row[1]) for row in expected]


def test_sst2_is_tokenized_in_seconds_and_a_batch_costs_little() -> None:
    data = opened("sst2")
    start = time.process_time()
    lengths = data.lengths(data.train)
    assert time.process_time() - start < 20  # about 3 s on an idle core
    assert lengths is not None
    assert (lengths.min() > 2, lengths.max()) == (True, 64)
    chosen = np.random.default_rng(0).integers(0, len(data.train), (100, 64))
    for kind in (data, data.collated(Masked())):
        kind.lengths(kind.train)
        start = time.process_time()
        for indices in chosen:
            kind.batch(kind.train, indices, (0, 0))
        assert (time.process_time() - start) / 100 < 5e-3  # about 0.05 and 0.25 ms on an idle core


def test_banking77() -> None:
    data = opened("banking77")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [9_003, 1_000, 3_080]
    assert data.labels is not None
    assert len(data.labels) == 77
    expected = rows(FOLDER / "banking77" / "test.csv")
    everything = np.arange(3_080)
    assert data.test.raw(everything) == [row[0] for row in expected]
    assert [data.labels[number] for number in data.test.targets(everything)] == [row[1] for row in expected]


def test_shakespeare() -> None:
    data = opened("shakespeare")
    assert data.text is not None
    assert data.text.vocabulary_size == 65 + 5
    text = (FOLDER / "shakespeare" / "input.txt").read_text(encoding="utf-8")
    everything = "".join(data.train.raw(np.arange(len(data.train))))
    assert text.startswith(everything)
    assert 0.9 - 2 * 128 / len(text) < len(everything) / len(text) < 0.901
    shown = data.collated(Causal())
    batch = shown.batch(shown.test, [3])
    assert data.text.tokenizer.decode(batch.targets[0, :-1].tolist()) == data.test.raw([3])[0][1:]


def test_wikitext2() -> None:
    data = opened("wikitext2")
    assert data.text is not None
    assert data.text.vocabulary_size == 4096
    text = (FOLDER / "wikitext2" / "test.txt").read_text(encoding="utf-8")
    assert text.startswith("".join(data.test.raw(np.arange(len(data.test)))[:500]).rstrip("\ufffd"))
    whole = data.text.tokenizer.encode(text, add_special_tokens=False).ids
    assert len(data.test) == len(whole) // 128
    np.testing.assert_array_equal(
        data.batch(data.test, [len(data.test) - 1]).inputs[0][0], whole[-128 - len(whole) % 128 :][:128]
    )


@pytest.mark.parametrize("name", ["sst2", "shakespeare"])
def test_a_cut_is_the_same_every_time(name: str) -> None:
    first = opened(name)
    opened("digits")  # closes the first
    again = opened(name)
    assert first is not again
    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(first.batch(first.test, [5]).inputs[0], again.batch(again.test, [5]).inputs[0])
