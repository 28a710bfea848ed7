from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from compress.data.arrow_values import array_of, is_list, is_number, is_picture, numbers, picture
from compress.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.list_(pa.float64())), pa.large_list(pa.list_(pa.int16())), pa.list_(pa.list_(pa.float32(), 3), 2)],
)
def test_nested_lists_become_arrays(kind: pa.DataType) -> None:
    column = pa.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [1, 2, 3]]], type=kind)
    np.testing.assert_array_equal(array_of(column[1], "x"), [[7, 8, 9], [1, 2, 3]])
    assert is_list(kind)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "unequal lengths"),
        ([[1, 2], None], "unequal lengths"),
        ([1, None], "empty entries"),
        (["a"], "no numbers"),
        (None, "is empty"),
    ],
)
def test_lists_that_are_no_arrays_are_refused(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"row 3.*{message}"):
        array_of(pa.array([value])[0], "row 3")


def test_numbers_of_a_column() -> None:
    assert numbers(pa.chunked_array([[1, 2], [3]]), "x").tolist() == [1, 2, 3]
    assert numbers(pa.chunked_array([pa.array([1, 2]).cast(pa.decimal128(25, 1))]), "x").tolist() == [1.0, 2.0]
    with pytest.raises(UsageError, match="has 1 empty values"):
        numbers(pa.chunked_array([[1, None]]), "x")
    with pytest.raises(UsageError, match="holds string"):
        numbers(pa.chunked_array([["a"]]), "x")


def test_pictures_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    forms = pa.array([{"bytes": png(), "path": None}, {"bytes": None, "path": "a.png"}])
    for value in (*forms, pa.scalar(png()), pa.scalar(png(), pa.large_binary()), pa.scalar("a.png")):
        np.testing.assert_array_equal(picture(value, tmp_path, "x"), PIXELS)
        assert is_picture(value.type)
        assert not is_number(value.type)
    with pytest.raises(UsageError, match=r"names the image file 'a\.png'; say where such files lie as `folder:`"):
        picture(pa.scalar("a.png"), None, "x")
    for empty in (pa.scalar(None, pa.binary()), pa.scalar({"bytes": None, "path": None}, forms.type), pa.scalar("")):
        with pytest.raises(UsageError, match="row 1 is empty"):
            picture(empty, tmp_path, "row 1")
