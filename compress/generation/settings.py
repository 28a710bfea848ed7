"""How texts are written and learnt from, as YAML says it. Light at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.settings import Settings
from compress.stage import Stage

if TYPE_CHECKING:
    from compress.data.dataset import Data
    from compress.training.method import Method

RESPONSES_FILE = "responses.jsonl"
"""What lies in a bundle of kind `RESPONSES`."""
TEXTS = "on"
"""The role, and the key, of the texts that a stage trains on."""
_OF_RATIONALES = {"rationale_weight", "rationale_prefix", "answer_prefix"}


class Price(Settings):
    """What a server asks for a million tokens, in the currency of `max_cost`."""

    input: float = Field(0.0, ge=0)
    """Of prompts."""
    output: float = Field(0.0, ge=0)
    """Of what is written."""


class OnPolicySettings(Settings):
    """The student's own samples in place of the data's answers (Agarwal et al. 2024, algorithm 1)."""

    share: float = Field(0.5, ge=0, le=1)
    """Of the steps that learn from the student's own samples; 0: none."""
    temperature: float = Field(1.0, gt=0)
    """Of the student while it samples."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Samples come from the likeliest tokens that have this much probability together."""
    max_new_tokens: int = Field(64, ge=1)
    """Longest sample; it is shorter where the prompt leaves less of the data's `max_length`."""


class LearnsTexts(Stage):
    """A stage that trains, and can do so on the texts that a teacher has written."""

    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {TEXTS: (Kind.RESPONSES,)}

    on: str | None = None
    """A `generate` stage: the texts that it has written are learnt in place of the training split's own answers."""
    rationale_weight: float | None = Field(None, ge=0)
    """Of the loss of rationales beside that of answers (Hsieh et al. 2023): with `on:` of those that were written (1
    unless given), if there are some; without it, only if this is given, of the data's own (`text.rationale`)."""
    rationale_prefix: str = "explain: "
    """Stands before a prompt that asks for the rationale."""
    answer_prefix: str = "answer: "
    """What the data's `text.prompt` may begin with to ask for the answer; `rationale_prefix` takes its place."""

    def texts(self) -> dict[str, str | None]:
        """The part of `references` that names the texts; empty without."""
        return {} if self.on is None else {TEXTS: self.on}

    def asked(self) -> dict[str, Any]:
        """Where no rationales are learnt, nothing that is about them."""
        found = super().asked()
        return found if self._explains else {key: found[key] for key in found if key not in _OF_RATIONALES}

    def learnt(self, data: Data, texts: Bundle | None) -> tuple[Data, Callable[[Method], Method] | None]:
        """What to train on, and what goes around the method of training; `data` as they are if nothing is asked."""
        if not self._explains:
            return data, None
        from compress.generation.responses import read_responses
        from compress.generation.step_by_step import learning_reasons, learning_texts

        if texts is None:
            return learning_reasons(data, self)
        return learning_texts(data, read_responses(texts.path / RESPONSES_FILE), self)

    def text_faults(self) -> list[tuple[str, str]]:
        """(key, message) for what has no effect."""
        if self._explains:
            return []
        given = sorted(self.model_fields_set & _OF_RATIONALES)
        return [(key, "has no effect without `on:` or `rationale_weight`, which say what is learnt") for key in given]

    @property
    def _explains(self) -> bool:
        """Whether something else than the data's own answers is learnt."""
        return self.on is not None or self.rationale_weight is not None

    @property
    def weight_of_rationales(self) -> float:
        """The weight in force."""
        return 1.0 if self.rationale_weight is None else self.rationale_weight
