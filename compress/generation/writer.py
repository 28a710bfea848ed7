"""A network of the pipeline as the teacher that writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compress.data.dataset import Data
from compress.data.objectives import Causal, SequenceToSequence
from compress.data.text import TextEncoder
from compress.errors import UsageError
from compress.generation.asks import Ask, Words
from compress.generation.decode import Decoding, Ids, Rows, continued
from compress.generation.draft import Entry
from compress.training.randomness import derived_seed

_ANSWER, _WHY = "answer", "why"


@dataclass(frozen=True)
class NetworkWriter:
    """Answers in batches, each a function of the network, its prompts and the seed.

    Args:
        network: on `device`, in evaluation mode (`compress.generation.decode.network_of`).
        text: turns prompts into tokens, and tokens into answers.
        ids: special tokens (`ids_of`).
        how: how tokens are chosen.
        words: what stands around prompts.
        seed: of sampling.
        device: where the network is.
    """

    network: nn.Module
    text: TextEncoder
    ids: Ids
    how: Decoding
    words: Words
    seed: int
    device: torch.device

    def answers(self, batch: Sequence[Ask]) -> list[Entry]:
        """One entry an ask; `cut` says that the text did not end in time."""
        texts, cut = self._written([self.words.asking(ask) for ask in batch], batch[0], _ANSWER)
        texts = [unwrapped(text, self.text.response) for text in texts]
        entries: list[Entry] = [
            {"id": ask.id, "sample": ask.sample, "response": text, "cut": short}
            for ask, text, short in zip(batch, texts, cut, strict=True)
        ]
        if self.words.reason is not None:
            prompts = [self.words.asking_why(ask, text) for ask, text in zip(batch, texts, strict=True)]
            for entry, why in zip(entries, self._written(prompts, batch[0], _WHY)[0], strict=True):
                entry["rationale"] = why
        return entries

    def _written(self, prompts: Sequence[str], first: Ask, what: str) -> tuple[list[str], list[bool]]:
        """(text, whether it did not end in time) of each prompt."""
        seed = derived_seed(self.seed, "generate", what, first.id, first.sample)
        rows = self._rows(prompts)
        found = continued(self.network, rows, self.ids, self.how, seed=seed, device=self.device)
        texts = self.text.tokenizer.decode_batch(found, skip_special_tokens=True)
        return list(texts), [row[-1:] != [self.ids.end] for row in found]

    def _rows(self, prompts: Sequence[str]) -> Rows:
        """Token ids; a prompt that is too long keeps what training would leave of it."""
        text = self.text
        if self.ids.start is not None:
            return [row.tolist() for row in map(text.encode(prompts)[0].__getitem__, range(len(prompts)))]
        room = text.max_length - len(text.beginning) - self.how.max_new_tokens
        return [(text.beginning + row[-room:]) or [text.end_id] for row in text.encode_plain(prompts)]


def ids_of(data: Data) -> Ids:
    """The special tokens for data that a task has prepared.

    Raises:
        UsageError: the task's networks do not write texts.
    """
    text, collate = data.text, data.collate
    if text is None or not isinstance(collate, Causal | SequenceToSequence):
        raise UsageError("only networks with the task causal-lm or sequence-to-sequence write texts")
    return Ids(text.pad_id, text.end_id, None if isinstance(collate, Causal) else text.start_id)


def check_lengths(text: TextEncoder, ids: Ids, max_new_tokens: int) -> None:
    """UsageError unless prompt and answer fit into what the data's networks are made for."""
    longest = text.target_max_length or text.max_length
    if ids.start is not None and max_new_tokens > longest:
        raise UsageError(
            f"max_new_tokens: {max_new_tokens} is more than the {longest} tokens of a target: lower it, or raise "
            "`text.target_max_length` of the data"
        )
    if ids.start is None and max_new_tokens + len(text.beginning) >= text.max_length:
        raise UsageError(
            f"max_new_tokens: {max_new_tokens} leaves no room for a prompt in the {text.max_length} tokens that a text "
            "may have: lower it, or raise the data's `text.max_length`"
        )


def unwrapped(text: str, pattern: str | None) -> str:
    """`text` without the words that the data's `text.response` puts around an answer, as far as they are there."""
    if pattern is None:
        return text
    before, _, after = pattern.partition("{target}")
    return text.removeprefix(before).removesuffix(after) if after else text.removeprefix(before)
