"""Learning why as well as what: rationales as a second task (Hsieh et al. 2023, "Distilling step-by-step").

Each example is seen twice: once its answer is asked for, once, by another prefix, the rationale. The loss is that of
answers plus `weight` times that of rationales (section 3.2), by two, so that at weight 1 its scale is that of one task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.data.digests import text_digest
from compress.data.objectives import Causal, Encoded, SequenceToSequence
from compress.data.ragged import Ragged
from compress.data.splits import Answered, Array, Indices, Split, Subset
from compress.data.text import TextEncoder
from compress.errors import UsageError
from compress.generation.responses import Response, Written, with_responses
from compress.generation.settings import LearnsTexts
from compress.training.around import Around
from compress.training.method import Method, TorchBatch, TrainingProgress


@dataclass(frozen=True)
class Reasoned:
    """The examples of `written` twice: first all that ask for the answer, then all that ask for the rationale."""

    written: Split

    def __len__(self) -> int:
        return 2 * len(self.written)

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs, the same for both."""
        return self.written.raw(np.asarray(indices, dtype=np.int64) % len(self.written))

    def targets(self, indices: Indices) -> Array:
        """Texts have no class."""
        return self.written.targets(np.asarray(indices, dtype=np.int64) % len(self.written))


@dataclass(frozen=True)
class StepByStep:
    """Batches of a split that is `Reasoned`; those of any other are `inner`'s.

    The rationale is asked for by `rationale_prefix` before the prompt, in place of `answer_prefix` where the data's
    prompt begins with that.
    """

    inner: Causal | SequenceToSequence
    rationale_prefix: str = "explain: "
    answer_prefix: str = "answer: "

    def names(self, text: TextEncoder) -> tuple[str, ...]:
        """The inner ones."""
        return self.inner.names(text)

    def encode(self, text: TextEncoder, split: Split) -> Encoded:
        """Answers, then rationales."""
        if isinstance(split, Subset) and _reasoned(split) is not None:
            return self.encode(text, split.whole).take(split.chosen)
        if not isinstance(split, Reasoned):
            return self.inner.encode(text, split)
        asking, prefix = text, self.rationale_prefix
        if text.prompt is not None:
            asking = replace(text, prompt=prefix + text.prompt.removeprefix(self.answer_prefix))
            prefix = ""
        why = replace(self.inner, answer="rationale", prefix=prefix)
        return _joined(self.inner.encode(text, split.written), why.encode(asking, split.written))

    def __call__(
        self, text: TextEncoder, rows: Encoded, examples: np.ndarray[Any, Any], augment: tuple[int, int] | None
    ) -> tuple[tuple[Array, ...], Array | None]:
        """The inner batches."""
        return self.inner(text, rows, examples, augment)


class Weighed(Around):
    """The inner method's loss of the answers in a batch and, `weight` times, that of the rationales.

    Each part's mean loss counts by its share of the batch's examples. Rationales are the examples from `first` on.
    """

    def __init__(self, inner: Method, first: int, weight: float) -> None:
        super().__init__(inner)
        self.first, self.weight = first, weight

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The weighted mean of both parts; of one if the batch has only that."""
        why = batch.indices >= self.first
        parts = [(part, weight) for part, weight in ((~why, 1.0), (why, self.weight)) if bool(part.any())]
        losses = [
            self.inner.loss(model, _some(batch, part), progress) * (weight * float(part.float().mean()))
            for part, weight in parts
        ]
        return sum(losses[1:], start=losses[0])


def learning_texts(
    data: Data, responses: list[Response], settings: LearnsTexts
) -> tuple[Data, Callable[[Method], Method] | None]:
    """Data to train on what a teacher has written, and what goes around the method of training where it gave reasons.

    `data` are as their task has prepared them.

    Raises:
        UsageError: the responses were written for other data, or a rationale is weighed and there is none.
    """
    found = with_responses(data, responses)
    written = cast(Written, found.train)
    if not written.explained and settings.rationale_weight is not None:
        raise UsageError("rationale_weight: the texts have no rationales: let them be written with `rationale: true`")
    if not written.explained or not settings.weight_of_rationales:
        return found, None
    return _twice(found, settings)


def learning_reasons(data: Data, settings: LearnsTexts) -> tuple[Data, Callable[[Method], Method] | None]:
    """Data to train on with their own rationales, and what goes around the method of training.

    `data` are as their task has prepared them.

    Raises:
        UsageError: they have no rationales, for some examples or for all.
    """
    if not isinstance(data.collate, Causal | SequenceToSequence) or data.text is None or not data.text.answers:
        raise UsageError("rationale_weight: the data have no target texts, and no rationales beside them")
    if data.unlabelled is not None:
        raise UsageError("rationale_weight: the data's unlabelled examples have no rationales: leave them out")
    cast(Answered, data.train).rationales(np.arange(1))  # says what is missing
    return _twice(data, settings) if settings.weight_of_rationales else (data, None)


def _twice(data: Data, settings: LearnsTexts) -> tuple[Data, Callable[[Method], Method]]:
    """Each example for its answer and for its rationale, and how both are weighed."""
    if not isinstance(data.collate, Causal | SequenceToSequence):
        raise UsageError("rationales are learnt with the task causal-lm or sequence-to-sequence")
    collate = StepByStep(data.collate, settings.rationale_prefix, settings.answer_prefix)
    mark = text_digest([settings.rationale_prefix, settings.answer_prefix])[:16]
    both = replace(
        data,
        train=Reasoned(data.train),
        collate=collate,
        fingerprint=data.fingerprint and f"{data.fingerprint}-why-{mark}",
        _prepared={},
        _encoded={},
    )
    return both, lambda method: Weighed(method, len(data.train), settings.weight_of_rationales)


def _reasoned(split: Split) -> Reasoned | None:
    while isinstance(split, Subset):
        split = split.whole
    return split if isinstance(split, Reasoned) else None


def _joined(one: Encoded, other: Encoded) -> Encoded:
    """The rows of both, one after the other."""

    def rows(first: Ragged | None, second: Ragged | None) -> Ragged | None:
        if first is None or second is None:
            return None
        values, shift = np.concatenate([first.values, second.values]), len(first.values)
        starts = np.concatenate([first.starts, second.starts + shift])
        return Ragged(values, starts, np.concatenate([first.stops, second.stops + shift]))

    tokens = rows(one.tokens, other.tokens)
    assert tokens is not None
    prompts = None if one.prompts is None or other.prompts is None else np.concatenate([one.prompts, other.prompts])
    return Encoded(tokens, None, prompts, rows(one.answers, other.answers))


def _some(batch: TorchBatch, chosen: Tensor) -> TorchBatch:
    """Those examples of a batch; `chosen` is on the CPU, as the batch's indices are."""
    if bool(chosen.all()):
        return batch
    here = chosen.to(batch.targets.device)
    return TorchBatch(tuple(x[here] for x in batch.inputs), batch.targets[here], batch.indices[chosen])
