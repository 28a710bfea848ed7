"""What a batch of texts is for: what is encoded of each example, and the arrays that a network reads and learns.

A task chooses one and asks `Data.collated` for the same data in its terms; without one, texts carry labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from compress.data.blocks import blocks_of
from compress.data.collate import causal, masked, pad, sequence_to_sequence
from compress.data.ragged import Ragged
from compress.data.splits import Answered, Array, Split
from compress.data.text import TextEncoder
from compress.errors import UsageError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of some examples, with what else an objective needs of them."""

    tokens: Ragged
    """What the network reads, at most `max_length` a row."""
    types: Ragged | None = None
    """Which text of a pair each token is of."""
    prompts: Indices | None = None
    """How many tokens of each row are prompt."""
    answers: Ragged | None = None
    """What a decoder must say."""

    def take(self, examples: Indices) -> Encoded:
        """Some of the examples."""
        return Encoded(
            self.tokens.take(examples),
            None if self.types is None else self.types.take(examples),
            None if self.prompts is None else self.prompts[examples],
            None if self.answers is None else self.answers.take(examples),
        )


class Collate(Protocol):
    """Makes batches of texts. Equal ones give equal batches."""

    def names(self, text: TextEncoder) -> tuple[str, ...]:
        """The names of the inputs, in order; UsageError if the tokenizer lacks a token that is needed."""

    def encode(self, text: TextEncoder, split: Split) -> Encoded:
        """All examples of a split, once."""

    def __call__(
        self, text: TextEncoder, rows: Encoded, examples: Indices, augment: tuple[int, int] | None
    ) -> tuple[tuple[Array, ...], Array | None]:
        """(inputs, targets) of a batch; None for the split's own targets."""


@dataclass(frozen=True)
class Labelled:
    """Texts or pairs with the split's own targets: classes or numbers."""

    def names(self, text: TextEncoder) -> tuple[str, ...]:
        """Token types only where there are pairs, and the tokenizer tells the two texts apart."""
        more = ("token_type_ids",) if text.tells_pairs_apart else ()
        return ("input_ids", "attention_mask", *more)

    def encode(self, text: TextEncoder, split: Split) -> Encoded:
        """Texts with the tokenizer's special tokens around them."""
        if (blocks := blocks_of(split)) is not None:
            return Encoded(blocks)
        tokens, types = text.encode(split.raw(np.arange(len(split))))
        return Encoded(tokens, types)

    def __call__(
        self, text: TextEncoder, rows: Encoded, examples: Indices, augment: tuple[int, int] | None
    ) -> tuple[tuple[Array, ...], Array | None]:
        """Token ids and attention mask, and types of pairs, each N x T."""
        inputs = pad(rows.tokens, text.pad_id)
        return (inputs if rows.types is None else (*inputs, rows.types.padded(0)[0])), None


@dataclass(frozen=True)
class Masked(Labelled):
    """Some tokens are hidden, and are to be told from the others."""

    share: float = 0.15
    """How many of the tokens are chosen."""

    def names(self, text: TextEncoder) -> tuple[str, ...]:
        """As of labelled texts."""
        if text.mask_id is None:
            raise UsageError("data: masked language modelling needs a tokenizer with a mask token ([MASK] or <mask>)")
        return super().names(text)

    def __call__(
        self, text: TextEncoder, rows: Encoded, examples: Indices, augment: tuple[int, int] | None
    ) -> tuple[tuple[Array, ...], Array | None]:
        """Token ids with masks, attention mask, types of pairs; targets at what was chosen. Each N x T."""
        ids, mask, targets = masked(
            rows.tokens,
            share=self.share,
            pad_id=text.pad_id,
            mask_id=cast(int, text.mask_id),
            special=text.special,
            examples=examples,
            augment=augment,
        )
        return ((ids, mask) if rows.types is None else (ids, mask, rows.types.padded(0)[0])), targets


@dataclass(frozen=True)
class _Answering:
    answer: Literal["target", "rationale"] = "target"
    """What is learnt of examples whose targets are texts."""
    prefix: str = ""
    """Stands before each prompt, and says which answer is asked for."""

    def _pairs(self, text: TextEncoder, split: Split) -> tuple[list[str], list[str]] | None:
        """(prompts, answers) of all examples, or None where targets are no texts."""
        if not text.answers:
            return None
        everything = np.arange(len(split))
        if self.answer == "rationale":
            answers = cast(Answered, split).rationales(everything)
        else:
            answers = text.responses(cast(Answered, split).target_texts(everything))
        prompts = text.prompts(split.raw(everything))
        return [self.prefix + prompt for prompt in prompts], answers


@dataclass(frozen=True)
class Causal(_Answering):
    """Each token is to be told from those before it; of prompt and answer, the answer's."""

    def names(self, text: TextEncoder) -> tuple[str, ...]:
        """Token ids and attention mask."""
        return ("input_ids", "attention_mask")

    def encode(self, text: TextEncoder, split: Split) -> Encoded:
        """Blocks of a long text as they are; documents, or prompts and answers, up to the token that ends them.

        A document that is too long is cut at its end, and has no token there that ends it. Of prompt and answer that
        are too long the answer keeps what it can, and the prompt its last tokens: at least one.
        """
        if (blocks := blocks_of(split)) is not None:
            return Encoded(blocks)
        length, begin, end = text.max_length, text.beginning, [text.end_id]
        pairs = self._pairs(text, split)
        if pairs is None:
            documents = text.encode_plain(text.prompts(split.raw(np.arange(len(split)))))
            return Encoded(Ragged.of((begin + row + end)[:length] for row in documents))
        prompts, rows = (text.encode_plain(texts) for texts in pairs)
        starts, answers = [], []
        for prompt, row in zip(prompts, rows, strict=True):
            answer = (row + end)[: length - len(begin) - 1]
            answers.append(answer)
            starts.append(begin + _last(prompt, length - len(begin) - len(answer)))
        tokens = Ragged.of(start + answer for start, answer in zip(starts, answers, strict=True))
        return Encoded(tokens, prompts=np.array([len(start) for start in starts], dtype=np.int64))

    def __call__(
        self, text: TextEncoder, rows: Encoded, examples: Indices, augment: tuple[int, int] | None
    ) -> tuple[tuple[Array, ...], Array | None]:
        """Token ids, attention mask; targets: the token that follows. Each N x T."""
        ids, mask, targets = causal(rows.tokens, text.pad_id, rows.prompts)
        return (ids, mask), targets


@dataclass(frozen=True)
class SequenceToSequence(_Answering):
    """A decoder is to say the target text of what an encoder read."""

    def names(self, text: TextEncoder) -> tuple[str, ...]:
        """Token ids and attention mask, and what the decoder reads."""
        if not text.answers:
            raise UsageError("data: sequence to sequence needs target texts: add `text: {targets: text}`")
        return ("input_ids", "attention_mask", "decoder_input_ids")

    def encode(self, text: TextEncoder, split: Split) -> Encoded:
        """Inputs with the tokenizer's special tokens; answers cut to `target_max_length`, the end among them."""
        prompts, answers = cast(tuple[list[str], list[str]], self._pairs(text, split))
        longest = (text.target_max_length or text.max_length) - 1
        said = [[*row[:longest], text.end_id] for row in text.encode_plain(answers)]
        return Encoded(text.encode(prompts)[0], answers=Ragged.of(said))

    def __call__(
        self, text: TextEncoder, rows: Encoded, examples: Indices, augment: tuple[int, int] | None
    ) -> tuple[tuple[Array, ...], Array | None]:
        """Token ids and attention mask (N x T), what the decoder reads; targets: what it must say (N x T_out)."""
        answers = cast(Ragged, rows.answers)
        *inputs, targets = sequence_to_sequence(rows.tokens, answers, text.pad_id, text.start_id)
        return tuple(inputs), targets


def _last(row: list[int], count: int) -> list[int]:
    return row[len(row) - count :] if count < len(row) else row
