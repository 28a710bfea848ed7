"""What a teacher is asked, and in which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.data.text import filled


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
        return ask.prompt if self.prompt is None else filled(self.prompt, {"text": ask.prompt, "response": ""})

    def asking_why(self, ask: Ask, response: str) -> str:
        """What asks for the rationale of `response`."""
        assert self.reason is not None
        return filled(self.reason, {"text": ask.prompt, "response": response})

    def finished(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry of a draft holds all that is asked for."""
        return self.reason is None or "rationale" in entry


def batches_of(prompts: Sequence[str], samples: int, batch_size: int) -> list[list[Ask]]:
    """All asks in batches of one sample number each; what is in a batch depends on nothing but the arguments."""
    return [
        [Ask(number, sample, prompts[number]) for number in range(start, min(start + batch_size, len(prompts)))]
        for start in range(0, len(prompts), batch_size)
        for sample in range(samples)
    ]
