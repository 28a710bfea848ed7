from __future__ import annotations

import numpy as np
import pytest

from compress.data.blocks import Blocks, LongText, blocks_of, cut_into_blocks, cut_text, pieces
from compress.data.dataset import ArraySplit, Subset
from compress.data.learnt_tokenizer import byte_pairs, characters
from compress.data.text import TextEncoder
from compress.data.text_settings import Bpe
from compress.errors import UsageError

LINES = [f"Line {number}: one  two, {number * 7919} three!\n{'' if number % 3 else chr(10)}" for number in range(9000)]
TEXT = "".join(LINES)


def test_pieces_make_the_whole_text() -> None:
    found = list(pieces(TEXT))
    assert len(found) > 3
    assert "".join(found) == TEXT
    assert all(not piece[0].isspace() and piece[-1] == "\n" and not piece[-2].isspace() for piece in found)
    assert list(pieces("")) == []
    assert list(pieces("a" * 100_000)) == ["a" * 100_000]


def test_tokens_of_pieces_are_those_of_the_whole() -> None:
    tokenizer = byte_pairs(Bpe(size=400), [TEXT])
    together = tokenizer.encode(TEXT, add_special_tokens=False).ids
    blocks = cut_into_blocks(TEXT, TextEncoder(tokenizer, 50), "it")
    assert blocks.tokens.values.tolist() == together[: len(together) // 50 * 50]


def test_blocks_follow_each_other_and_the_rest_is_dropped() -> None:
    text = "the quick brown fox jumps"
    encoder = TextEncoder(characters([text]), 7)
    blocks = cut_into_blocks(text, encoder, "it")
    assert len(blocks) == 3
    assert blocks.tokens.lengths.tolist() == [7, 7, 7]
    assert blocks.raw([0, 2]) == [text[:7], text[14:21]]
    assert blocks.targets([0, 2]).tolist() == [-1, -1]
    with pytest.raises(UsageError, match=r"it has 25 tokens, under one block of text\.max_length = 26"):
        cut_into_blocks(text, TextEncoder(encoder.tokenizer, 26), "it")


def test_a_text_is_cut_in_order_where_lines_end() -> None:
    parts = cut_text(LongText(TEXT), {"validation": 0.1, "test": 0.2})
    assert list(parts) == ["train", "validation", "test"]
    texts = [part.raw([0])[0] for part in parts.values()]
    assert "".join(texts) == TEXT
    assert all(text.endswith("\n") for text in texts)
    np.testing.assert_allclose([len(text) / len(TEXT) for text in texts], [0.7, 0.1, 0.2], atol=60 / len(TEXT))
    assert [len(part.raw([0])[0]) for part in cut_text(LongText("x" * 10), {"test": 0.2}).values()] == [8, 2]
    with pytest.raises(UsageError, match="2 characters are too few to cut a test split"):
        cut_text(LongText("a\n"), {"test": 0.2})


@pytest.mark.parametrize("text", ["a" * 99 + "\n", "a" * 90 + "\n" + "b" * 8 + "\n"])
def test_lines_are_cut_where_a_stretch_would_be_empty_otherwise(text: str) -> None:
    parts = cut_text(LongText(text), {"validation": 0.1, "test": 0.2})
    texts = [part.raw([0])[0] for part in parts.values()]
    assert [len(part) for part in texts] == [70, 10, 20]
    assert "".join(texts) == text


def test_blocks_are_found_through_subsets() -> None:
    blocks = cut_into_blocks("abcdefgh", TextEncoder(characters(["abcdefgh"]), 2), "it")
    found = blocks_of(Subset(Subset(blocks, np.array([3, 1, 0])), np.array([0, 2])))
    assert found is not None
    assert [blocks.tokenizer.decode(found[row].tolist()) for row in (0, 1)] == ["gh", "ab"]
    assert blocks_of(ArraySplit(np.zeros(2), np.zeros(2))) is None
    assert isinstance(blocks, Blocks)
