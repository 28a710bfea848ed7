"""One long text as examples of one length: blocks of tokens without overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.data.ragged import Ragged
from compress.data.splits import Array, Indices, Split, Subset, no_classes
from compress.data.text import TextEncoder
from compress.errors import UsageError

PIECE = 1 << 16
"""Characters that are tokenized together, about: what bounds the memory that the tokenizer's own objects take."""


@dataclass(frozen=True)
class LongText:
    """One text, not yet cut into examples: a split with one example."""

    text: str

    def __len__(self) -> int:
        return int(bool(self.text))

    def raw(self, indices: Indices) -> list[str]:
        """The text."""
        return [self.text for _ in indices]

    def targets(self, indices: Indices) -> Array:
        """It has no class."""
        return no_classes(len(indices))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Stretches of a text, each of as many tokens."""

    tokens: Ragged
    tokenizer: Any

    def __len__(self) -> int:
        return len(self.tokens)

    def raw(self, indices: Indices) -> list[str]:
        """The words of each block, as the tokenizer puts its tokens together."""
        rows = [self.tokens[int(index)].tolist() for index in indices]
        return list(self.tokenizer.decode_batch(rows, skip_special_tokens=False))

    def targets(self, indices: Indices) -> Array:
        """They have no class."""
        return no_classes(len(indices))


def cut_into_blocks(text: str, encoder: TextEncoder, what: str) -> Blocks:
    """The blocks of `max_length` tokens of `text`, without special tokens; what is left at the end is dropped.

    Raises:
        UsageError: not even one block; `what` says of which split.
    """
    rows = encoder.encode_plain(list(pieces(text)))
    values = np.concatenate([np.array(row, dtype=np.int32) for row in rows]) if rows else np.empty(0, dtype=np.int32)
    length = encoder.max_length
    count = len(values) // length
    if not count:
        raise UsageError(f"data: {what} has {len(values)} tokens, under one block of text.max_length = {length}")
    kept = Ragged.joined(values[: count * length], np.full(count, length, dtype=np.int64))
    return Blocks(kept, encoder.tokenizer)


def cut_text(whole: LongText, shares: Mapping[str, float]) -> dict[str, Split]:
    """`whole` in stretches: what is left for training first, then one of each share; cut where a line ends.

    Where lines are so long that this would leave a stretch empty, it is cut inside them.

    Raises:
        UsageError: a stretch is empty.
    """
    text = whole.text
    share, names = 1 - sum(shares.values()), ["train", *shares]
    ends = []
    for name in names[:-1]:
        share = share if name == "train" else share + shares[name]
        ends.append(round(share * len(text)))
    parts = _stretches(text, [text.find("\n", end) + 1 or end for end in ends])
    if not all(parts):
        parts = _stretches(text, ends)
    for name, part in zip(names, parts, strict=True):
        if not part:
            raise UsageError(f"data: {len(text)} characters are too few to cut a {name} split from")
    return {name: LongText(part) for name, part in zip(names, parts, strict=True)}


def _stretches(text: str, ends: list[int]) -> list[str]:
    """`text` cut at each of `ends`, or where the stretch before ended if that is later."""
    places = [0]
    for end in ends:
        places.append(max(places[-1], end))
    return [text[start:stop] for start, stop in zip(places, [*places[1:], len(text)], strict=True)]


def pieces(text: str) -> Iterator[str]:
    """`text` in pieces of about `PIECE` characters that end where a line ends and another with text begins.

    Tokenizers that begin a new word there give the same tokens as for the whole.
    """
    start = 0
    while start < len(text):
        end = start + PIECE
        while True:
            end = text.find("\n", end) + 1
            if not end:
                yield text[start:]
                return
            if end < len(text) and not text[end].isspace() and not text[end - 2].isspace():
                break
        yield text[start:end]
        start = end


def blocks_of(split: Split) -> Ragged | None:
    """The token ids of a split of blocks, or of some of them; None of any other split."""
    if isinstance(split, Subset):
        whole = blocks_of(split.whole)
        return None if whole is None else whole.take(split.chosen)
    return split.tokens if isinstance(split, Blocks) else None
