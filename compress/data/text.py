"""Texts -> token ids: a tokenizer, what its special tokens mean, and how long a text may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.ragged import Ragged

Text = str | tuple[str, ...]
AT_ONCE = 8192
"""Texts that are tokenized together: what bounds the memory that the tokenizer's own objects take."""

_PLACE = re.compile(r"\{(\w+)\}")
_EMPTY = {"input": "", "second": "", "target": ""}
"""What the places of a pattern hold that are not given."""


@dataclass(frozen=True)
class TextEncoder:
    """How texts become token ids. Ids that a tokenizer does not have are None.

    A tokenizer that names no token for the end of a text ends it as it ends a sentence (`sep_id`), and begins it with
    `cls_id`; one that names no padding pads with the end, which the attention mask hides.
    """

    tokenizer: Any = field(repr=False)
    """A `tokenizers.Tokenizer`, without truncation and padding."""
    max_length: int
    pad_id: int = 0
    mask_id: int | None = None
    cls_id: int | None = None
    sep_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    target_max_length: int | None = None
    """Tokens of a target text that a decoder says; None: `max_length`."""
    pair: bool = False
    """Whether each example is two texts."""
    answers: bool = False
    """Whether targets are texts."""
    prompt: str | None = None
    """What is made of the inputs for a model that goes on from there; None: the texts, one a line."""
    response: str | None = None
    """What is made of a target text; None: the text."""

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest token id."""
        return 1 + max(map(int, self.tokenizer.get_vocab(with_added_tokens=True).values()))

    @cached_property
    def special(self) -> npt.NDArray[np.bool_]:
        """For each token id whether it is special: no part of a text."""
        found = np.zeros(self.vocabulary_size, dtype=np.bool_)
        found[[key for key, token in self.tokenizer.get_added_tokens_decoder().items() if token.special]] = True
        known = (self.pad_id, self.mask_id, self.cls_id, self.sep_id, self.bos_id, self.eos_id)
        found[[key for key in known if key is not None]] = True
        return found

    @cached_property
    def json(self) -> str:
        """The tokenizer as the text of a `tokenizer.json`."""
        return str(self.tokenizer.to_str())

    @cached_property
    def tells_pairs_apart(self) -> bool:
        """Whether the tokenizer gives the second text of a pair token types of its own."""
        return self.pair and len(set(self.tokenizer.encode("a", "a").type_ids)) > 1

    def encode(self, texts: Sequence[Text]) -> tuple[Ragged, Ragged | None]:
        """(token ids, token types) of texts or pairs with the special tokens around them, at most `max_length` a row.

        What is too long is cut at its end; of a pair the longer text first. A text without tokens becomes the end.
        Types are None where the tokenizer does not tell the texts of a pair apart.
        """
        cutting = type(self.tokenizer).from_str(self.json)
        cutting.enable_truncation(self.max_length, strategy="longest_first")
        ids, types = [], []
        for found in _encodings(cutting, texts, special=True):
            ids.append(found.ids or [self.end_id])
            if self.tells_pairs_apart:
                types.append(found.type_ids or [0])
        return Ragged.of(ids), Ragged.of(types) if self.tells_pairs_apart else None

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids without special tokens, however long."""
        return [found.ids for found in _encodings(self.tokenizer, texts, special=False)]

    @cached_property
    def beginning(self) -> list[int]:
        """The special tokens that the tokenizer puts before a text."""
        plain = self.tokenizer.encode("a", add_special_tokens=False).ids
        marked = self.tokenizer.encode("a").ids
        starts = [at for at in range(len(marked) - len(plain) + 1) if marked[at : at + len(plain)] == plain]
        return list(marked[: starts[0]]) if starts else []

    @property
    def end_id(self) -> int:
        """What ends a text: `eos_id`, or where there is none the padding."""
        return self.pad_id if self.eos_id is None else self.eos_id

    @property
    def start_id(self) -> int:
        """What a decoder reads first: `bos_id`, or where there is none the padding."""
        return self.pad_id if self.bos_id is None else self.bos_id

    def prompts(self, texts: Iterable[Text]) -> list[str]:
        """Inputs in the words of `prompt`."""
        found = []
        for text in texts:
            parts = (text,) if isinstance(text, str) else text
            if self.prompt is None:
                found.append("\n".join(parts))
            else:
                found.append(filled(self.prompt, _EMPTY | dict(zip(("input", "second"), parts, strict=False))))
        return found

    def responses(self, texts: Sequence[str]) -> list[str]:
        """Target texts in the words of `response`."""
        pattern = self.response
        return list(texts) if pattern is None else [filled(pattern, _EMPTY | {"target": text}) for text in texts]


def filled(pattern: str, values: Mapping[str, str]) -> str:
    """`pattern` with `{name}` replaced by the values of that name; other braces, and those in values, stay."""
    return _PLACE.sub(lambda match: values.get(match.group(1), match.group()), pattern)


def _encodings(tokenizer: Any, texts: Sequence[Text], *, special: bool) -> Iterator[Any]:
    for start in range(0, len(texts), AT_ONCE):
        yield from tokenizer.encode_batch_fast(list(texts[start : start + AT_ONCE]), add_special_tokens=special)
