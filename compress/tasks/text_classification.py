"""Texts, or pairs of texts, of one class of several. The network gives a logit for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from compress.tasks.classes import Array, OneClass
from compress.tasks.intervals import bootstrap, wilson
from compress.tasks.text_metrics import classification_metrics

INTERVAL_DRAWS = 200
"""Resamples for the interval of a metric that is no plain share of examples."""


@dataclass(frozen=True)
class TextClassification(OneClass):
    """Cross-entropy to train by; accuracy, F1 or Matthews' correlation to judge by."""

    primary: Literal["accuracy", "f1", "matthews"] = "accuracy"
    name: ClassVar[str] = "text-classification"

    @property
    def metric(self) -> str:
        """The one that the settings choose."""
        return self.primary

    def metrics(self, outputs: Array, targets: Array) -> dict[str, float]:
        """`accuracy`, `f1` and `matthews` (`compress.tasks.text_metrics`), the chosen one first."""
        self.require_logits(outputs, targets)
        found = classification_metrics(outputs, targets)
        return {self.metric: found.pop(self.metric), **found}

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """A 95 % interval: Wilson's for the accuracy, for the others a bootstrap over examples."""
        self.require_logits(outputs, targets)
        if self.metric == "accuracy":
            return wilson(int(np.sum(outputs.argmax(axis=1) == targets)), len(targets))

        def statistic(indices: npt.NDArray[np.int64]) -> float:
            return classification_metrics(outputs[indices], targets[indices])[self.metric]

        return bootstrap(statistic, len(targets), draws=INTERVAL_DRAWS)
