from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import pytest
from sklearn.datasets import load_digits

from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.data.source_settings import Digits
from compress.data.sources.digits import open_digits
from compress.data.sources.digits_file import digits_file
from compress.errors import UsageError


def test_examples_are_scikit_learns() -> None:
    opened = open_digits(Digits(), None)
    theirs = load_digits()
    split = opened.splits["train"]
    np.testing.assert_array_equal(np.stack(split.raw(range(1797))), theirs.images)
    np.testing.assert_array_equal(split.targets(range(1797)), theirs.target)
    assert opened.labels == tuple(map(str, theirs.target_names))


def test_the_shipped_data_set() -> None:
    data = open_data(read_data_settings("digits"))
    sizes = [len(split) for split in (data.train, data.validation, data.test)]
    assert sizes == [1168, 270, 359]
    assert data.input_shapes == ((1, 8, 8),)
    whole = np.concatenate([batch.inputs[0] for batch in data.batches(data.train, 100)])
    assert abs(float(whole.mean())) < 0.02
    assert abs(float(whole.std()) - 1) < 0.02
    for split in (data.train, data.validation, data.test):
        counts = np.bincount(split.targets(range(len(split))), minlength=10)
        assert counts.max() - counts.min() <= 6


def test_identity_is_the_files_content() -> None:
    assert Digits().identity() == {"content": hashlib.sha256(digits_file().read_bytes()).hexdigest()}


def test_without_scikit_learn_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="scikit-learn is not installed"):
        digits_file()
