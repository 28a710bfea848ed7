"""Texts, or pairs of texts, of one class of several. The network gives a logit for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from compress.tasks.classes import Array, OneClass
from compress.tasks.intervals import bootstrap, wilson

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
        """`accuracy`, `f1` and `matthews` (`classification_metrics`), the chosen one first."""
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


def classification_metrics(logits: Array, classes: Array) -> dict[str, float]:
    """`accuracy`, `f1` and `matthews` of the classes with the largest logits; the numbers that GLUE asks for.

    `f1` is that of class 1 where there are two classes, and otherwise the mean over classes that are found or right at
    least once (macro). Where nothing is put into class 1 and nothing belongs there, f1 is 0. `matthews` is the
    correlation of found with right classes (Matthews 1975; Gorodkin 2004 for more than two).

    Args:
        logits: (examples, classes).
        classes: (examples,), the right class numbers.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    found = logits.argmax(axis=1)
    average = "binary" if logits.shape[1] == 2 else "macro"
    # The correlation with a constant is 0 / 0. A network that always says the same tells no classes apart: 0.
    constant = np.ptp(found) == 0 or np.ptp(classes) == 0
    return {
        "accuracy": float(np.mean(found == classes)),
        "f1": float(f1_score(classes, found, average=average, zero_division=0)),
        "matthews": 0.0 if constant else float(matthews_corrcoef(classes, found)),
    }
