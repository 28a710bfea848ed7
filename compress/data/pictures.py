"""Image files -> arrays, as stored: H x W for grey, H x W x 3 or 4 for colour; the camera's orientation applied."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.errors import UsageError

_AS_STORED = {"L", "LA", "RGB", "RGBA", "I", "F", "I;16"}


def decode(content: bytes | Path, name: str) -> npt.NDArray[Any]:
    """The pixels of an encoded image, from its bytes or its file.

    Raises:
        UsageError: not an image, or a damaged one; `name` says which.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as stored:
            turned = ImageOps.exif_transpose(stored)
            return np.asarray(turned.convert(_plain_mode(turned)))
    except FileNotFoundError as error:
        raise UsageError(f"data: no such image file: {name}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"data: {name} is no image that can be read: {error}") from error


def _plain_mode(image: Any) -> str:
    if image.mode in _AS_STORED:
        return str(image.mode)
    if image.mode == "1":
        return "L"
    return "RGBA" if image.mode == "P" and "transparency" in image.info else "RGB"
