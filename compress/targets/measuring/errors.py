"""What cannot be done, for what reason."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any


class RequestError(Exception):
    """What was asked cannot be done; `kind` is `model`, `axes`, `provider` or `run`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def plain(error: BaseException) -> str:
    """An exception's text in one line, without ONNX Runtime's error number and source positions."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : ", "", str(error))
    text = re.sub(r"\S*/onnxruntime/core/\S+ ", "", text)
    return " ".join(text.split())[:600] or type(error).__name__


@contextlib.contextmanager
def running(feeds: dict[str, Any]) -> Iterator[None]:
    """Says with which inputs a model failed."""
    try:
        yield
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
        raise RequestError("run", f"it fails when run on {shapes}: {plain(error)}") from error
