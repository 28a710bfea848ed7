"""Text files without columns: each split is one long text."""

from __future__ import annotations

from pathlib import Path

from compress.data.blocks import LongText
from compress.data.source_settings import PlainText
from compress.data.splits import Opened
from compress.data.text_settings import TextSettings
from compress.errors import UsageError


def open_plain_text(settings: PlainText, labels: tuple[str, ...] | None, text: TextSettings) -> Opened:
    """The files of each split, one after the other; blocks are cut once there is a tokenizer.

    Raises:
        UsageError: a file is not UTF-8, or there is nothing to learn from it.
    """
    if text.targets == "text":
        raise UsageError("data: source plain_text has no target texts: remove `targets` from `text:`")
    return Opened({split: LongText("".join(map(_read, files))) for split, files in settings.files().items()}, labels)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"data: {file} is no text in UTF-8: {error}") from error
