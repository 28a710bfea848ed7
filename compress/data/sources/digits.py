"""scikit-learn's digits (Alpaydin and Kaynak 1998, the test part of UCI's optdigits): scans of 8x8, values 0 to 16."""

from __future__ import annotations

import gzip

import numpy as np

from compress.data.source_settings import Digits
from compress.data.sources.digits_file import digits_file
from compress.data.splits import ArraySplit, Opened

NAMES = tuple("0123456789")


def open_digits(settings: Digits, labels: tuple[str, ...] | None) -> Opened:
    """1,797 grey images in one split; the file is read without importing scikit-learn."""
    with gzip.open(digits_file(), "rt") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    split = ArraySplit(table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64))
    return Opened({"train": split}, labels or NAMES, images=True)
