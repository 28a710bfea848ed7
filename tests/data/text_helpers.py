"""Small tokenizers and tables of texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from compress.data.dataset import Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings

FOLDER = Path(os.environ.get("COMPRESS_DATA", "/not/set"))
real = pytest.mark.skipif(
    not (FOLDER / "bert_vocab" / "vocab.txt").is_file(), reason="COMPRESS_DATA is not set to a folder with texts"
)
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "##s", "a", "dog", "."]
IDS = {token: number for number, token in enumerate(TOKENS)}


def vocabulary(folder: Path, tokens: list[str] | None = None) -> Path:
    """A file of WordPiece tokens."""
    file = folder / "vocab.txt"
    file.write_text("\n".join(tokens or TOKENS) + "\n", encoding="utf-8")
    return file


def table(folder: Path, rows: list[dict[str, Any]], name: str = "t.jsonl") -> str:
    """Rows as JSON Lines."""
    import json

    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def opened(folder: Path, source: dict[str, Any], text: dict[str, Any] | None = None, **more: Any) -> Data:
    """Data of a mapping whose paths lie in `folder`, with a WordPiece of a few words where no tokenizer is named."""
    vocabulary(folder)
    settings = {"tokenizer": {"vocabulary": "vocab.txt"}, **(text or {})}
    return open_data(read_data_settings({"source": source, "text": settings, **more}, folder))


SENTENCES = ["the cat sat", "a dog sat on the mat .", "the cats", "", "mats on a cat ."]


def labelled(folder: Path, count: int = 50, **text: Any) -> Data:
    """Sentences of two classes."""
    rows = [{"s": SENTENCES[number % 5], "y": number % 2} for number in range(count)]
    return opened(folder, {"table": {"path": table(folder, rows), "input": "s", "target": "y"}}, text)
