"""Language: each token is to be told from others. The network gives a logit for each token of the vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from compress.data import objectives
from compress.data.collate import IGNORED
from compress.data.dataset import Data
from compress.data.split_names import SPLITS
from compress.errors import UsageError
from compress.tasks.task import Distillation
from compress.tasks.tokens import condensed, perplexity_interval, require_tokens, same_tokens, token_metrics

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


class TokenTask(ABC):
    """Cross-entropy of each token that counts to train by, perplexity to judge by.

    Outputs are (N, T, V), targets (N, T) with `IGNORED` where nothing counts; condensed outputs are those of
    `compress.tasks.tokens`, and hold all that metrics need: these do not look at targets.
    """

    name: ClassVar[str]
    metric: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    distillation: ClassVar[Distillation] = "classes"
    class_axis: ClassVar[int] = -1

    @abstractmethod
    def collate(self) -> objectives.Collate:
        """How batches are made."""

    def prepare(self, data: Data) -> Data:
        """The data in batches of this task.

        Raises:
            UsageError: the data are no texts, or lack a token or target texts.
        """
        return data.collated(self.collate())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens that count, in nats; 0 without any."""
        from torch.nn import functional

        require_tokens(tuple(outputs.shape), tuple(targets.shape))
        flat, right = outputs.flatten(0, 1), targets.flatten()
        total = functional.cross_entropy(flat, right, ignore_index=IGNORED, reduction="sum")
        return total / right.ne(IGNORED).sum().clamp(min=1)

    def condense(self, outputs: Tensor | Array, targets: Tensor | Array) -> Array:
        """Logits (N, T, V) -> four numbers for each token (N, T, 4)."""
        return condensed(outputs, targets)

    def metrics(self, outputs: Array, targets: Array) -> dict[str, float]:
        """`perplexity` and `token_accuracy` of condensed outputs."""
        return token_metrics(outputs)

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """A 95 % bootstrap interval of the perplexity over examples."""
        return perplexity_interval(outputs)

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """Share of tokens that count for which both models think the same token the likeliest."""
        return same_tokens(outputs, reference_outputs)

    def check(self, data: Data) -> list[str]:
        """There must be a tokenizer, and what the task's batches need, and a token to learn in each split."""
        try:
            prepared = self.prepare(data)
        except UsageError as error:
            return [fault.message for fault in error.faults]
        found = []
        for name in SPLITS:
            split = getattr(prepared, name)
            if not np.any(prepared.batch(split, np.arange(min(64, len(split)))).targets != IGNORED):
                found.append(f"the first texts of the {name} split hold no token to learn: they are too short")
        return found

    def output_size(self, data: Data) -> int:
        """The size of the vocabulary.

        Raises:
            UsageError: the data are no texts.
        """
        if data.text is None:
            raise UsageError(f"data: {self.name} needs texts: name a tokenizer as `text: {{tokenizer: ...}}`")
        return data.text.vocabulary_size


@dataclass(frozen=True)
class CausalLM(TokenTask):
    """Each token is told from those before it; where there are prompts and answers, only tokens of answers count."""

    name: ClassVar[str] = "causal-lm"

    def collate(self) -> objectives.Collate:
        """Each token's target is the next one."""
        return objectives.Causal()


@dataclass(frozen=True)
class MaskedLM(TokenTask):
    """Hidden tokens are told from those around them (Devlin et al. 2019, section 3.1)."""

    share: float = 0.15
    name: ClassVar[str] = "masked-lm"

    def collate(self) -> objectives.Collate:
        """A share of the tokens is hidden; others in each epoch, always the same in evaluation."""
        return objectives.Masked(share=self.share)


@dataclass(frozen=True)
class SequenceToSequence(TokenTask):
    """A text is told from another: each of its tokens from the other text and the tokens before it."""

    name: ClassVar[str] = "sequence-to-sequence"

    def collate(self) -> objectives.Collate:
        """The decoder reads the target text one place later."""
        return objectives.SequenceToSequence()
