"""What a teacher is asked, and in which words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PLACE = re.compile(r"\{(text|response)\}")


@dataclass(frozen=True)
class Ask:
    """One text to be written: the `sample`-th answer to the prompt of example `id` of the split."""

    id: int
    sample: int
    prompt: str

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from others."""
        return self.id, self.sample


@dataclass(frozen=True)
class Words:
    """The words around a data's prompt that the teacher reads.

    `prompt` asks for an answer, with `{text}`; None: the prompt as it is. `reason` asks why, with `{text}` and
    `{response}`; None: nobody asks.
    """

    prompt: str | None = None
    reason: str | None = None

    def asking(self, ask: Ask) -> str:
        """What asks for the answer."""
        return ask.prompt if self.prompt is None else _filled(self.prompt, text=ask.prompt, response="")

    def asking_why(self, ask: Ask, response: str) -> str:
        """What asks for the rationale of `response`."""
        return _filled(self.reason or "{text}", text=ask.prompt, response=response)


def batches_of(prompts: Sequence[str], samples: int, batch_size: int) -> list[list[Ask]]:
    """All asks in batches of one sample number each; what is in a batch depends on nothing but the arguments."""
    return [
        [Ask(number, sample, prompts[number]) for number in range(start, min(start + batch_size, len(prompts)))]
        for start in range(0, len(prompts), batch_size)
        for sample in range(samples)
    ]


def _filled(words: str, **values: str) -> str:
    """`words` with the places replaced; braces in the values stay as they are."""
    return _PLACE.sub(lambda match: values[match.group(1)], words)
