from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from compress.data.splits import ArraySplit
from compress.profiling.flips import Flips
from compress.profiling.shown import SIDE, cut, shown, shown_flips


def decoded(uri: str) -> np.ndarray:
    head, _, content = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_small_pictures_keep_every_pixel_and_dark_ones_are_stretched() -> None:
    digits = [np.arange(64, dtype=np.uint8).reshape(8, 8) % 17, np.full((8, 8), 16, dtype=np.uint8)]
    first, second = (decoded(row["picture"]) for row in shown(digits))
    np.testing.assert_array_equal(first, np.round(digits[0] / 16 * 255))
    assert (second == 255).all()
    photo = np.zeros((8, 8, 3), dtype=np.uint8)
    photo[0, 0] = (200, 10, 30)
    np.testing.assert_array_equal(decoded(shown([photo])[0]["picture"]), photo)


@pytest.mark.parametrize("shape", [(3, 300, 200), (300, 200, 3), (300, 200, 4)])
def test_large_pictures_become_small_ones_of_the_same_shape(shape: tuple[int, ...]) -> None:
    picture = decoded(shown([np.random.default_rng(0).normal(size=shape)])[0]["picture"])
    assert picture.shape == (SIDE, round(SIDE * 2 / 3), 3)


def test_what_is_no_picture_is_left_out() -> None:
    assert shown([np.zeros(10), np.zeros((2, 5, 7, 9))]) == [{}, {}]
    assert shown([]) == []


def test_texts_are_cut() -> None:
    assert shown([("a  b\nc", "d")]) == [{"texts": ["a b c", "d"]}]
    long = cut("word " * 100)
    assert len(long) <= 280 and long.endswith("…")
    assert cut("exactly", 7) == "exactly" and cut("exactly so", 7) == "exactl…"


def test_the_first_flips_are_shown_with_their_classes() -> None:
    split = ArraySplit(np.arange(30 * 16, dtype=np.uint8).reshape(30, 4, 4), np.zeros(30, dtype=np.int64))
    wrong = tuple(range(3, 20))
    moved = Flips(30, wrong, (25,), (), dict.fromkeys(wrong, (0, 0, 2)) | {25: (1, 5, 1)}, 0.5)
    rows = shown_flips(split, moved, ("cat", "dog", "fox"))
    assert [row["index"] for row in rows] == [*range(3, 11), 25]
    assert {key: rows[0][key] for key in ("kind", "right", "before", "after")} == {
        "kind": "became_wrong", "right": "cat", "before": "cat", "after": "fox",
    }  # fmt: skip
    assert rows[-1]["before"] == "5"  # a class beyond the names
    assert decoded(rows[0]["picture"]).shape == (4, 4)
    assert shown_flips(split, Flips(30, (), (), (), {}, 1.0), None) == []
