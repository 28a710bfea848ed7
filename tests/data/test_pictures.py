from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data.pictures import decode
from compress.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "png", **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["png", "webp", "bmp", "tiff"])
def test_lossless_images_come_back(kind: str) -> None:
    options = {"lossless": True} if kind == "webp" else {}
    image = Image.fromarray(PIXELS[..., :3])
    np.testing.assert_array_equal(decode(encoded(image, kind, **options), "x"), PIXELS[..., :3])


def test_modes_become_plain_arrays(tmp_path: Path) -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    np.testing.assert_array_equal(decode(encoded(grey), "x"), PIXELS[..., 0])
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(PIXELS)), "x"), PIXELS)
    assert decode(encoded(grey.convert("1")), "x").dtype == np.uint8
    assert decode(encoded(Image.fromarray(PIXELS[..., :3]).convert("P")), "x").shape == (5, 7, 3)
    assert decode(encoded(Image.fromarray(PIXELS[..., :3]).convert("CMYK"), "tiff"), "x").shape == (5, 7, 3)
    deep = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000)
    np.testing.assert_array_equal(decode(encoded(deep), "x"), np.arange(12).reshape(3, 4) * 5000)
    file = tmp_path / "a.png"
    grey.save(file)
    np.testing.assert_array_equal(decode(file, "x"), PIXELS[..., 0])


def test_the_cameras_orientation_is_applied() -> None:
    image = Image.fromarray(PIXELS[..., :3])
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert decode(encoded(image, "jpeg", exif=exif), "x").shape == (7, 5, 3)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(PIXELS), "png")
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        with pytest.raises(UsageError, match="row 7 is no image"):
            decode(content, "row 7")
    with pytest.raises(UsageError, match=r"no such image file: gone\.png"):
        decode(tmp_path / "gone.png", "gone.png")
