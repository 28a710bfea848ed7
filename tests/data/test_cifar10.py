"""The shipped CIFAR-10 settings on the real files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from compress.data.open import open_data
from compress.data.settings import read_data_settings

FOLDER = Path(os.environ.get("COMPRESS_DATA", "/not/set")) / "cifar10"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="COMPRESS_DATA is not set to a folder with cifar10/*.parquet"
)


def test_all_test_images_are_decoded_and_normalised(cache: Path) -> None:
    data = open_data(read_data_settings("cifar10"))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert data.labels is not None
    assert data.labels[3] == "cat"
    assert data.input_shapes == ((3, 32, 32),)

    batches = list(data.batches(data.test, 500))
    inputs = np.concatenate([batch.inputs[0] for batch in batches])
    targets = np.concatenate([batch.targets for batch in batches])
    assert np.bincount(targets).tolist() == [1000] * 10
    assert len(list(cache.glob("decoded/*"))) == 1

    rows = pyarrow.parquet.read_table(FOLDER / "test.parquet").slice(9_990).to_pylist()
    for ours, row in zip(inputs[9_990:], rows, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) / 255
        expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(ours, expected.transpose(2, 0, 1), atol=2e-6)
    assert targets[9_990:].tolist() == [row["label"] for row in rows]

    again = open_data(read_data_settings("cifar10"))
    np.testing.assert_array_equal(again.batch(again.test, [9_999]).inputs[0], inputs[9_999:])
