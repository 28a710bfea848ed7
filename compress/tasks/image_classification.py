"""One class of several. The network gives a logit for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compress.tasks.classes import Array, OneClass
from compress.tasks.intervals import wilson


@dataclass(frozen=True)
class ImageClassification(OneClass):
    """Cross-entropy to train by, accuracy to judge by."""

    name: ClassVar[str] = "image-classification"
    metric: ClassVar[str] = "accuracy"

    def metrics(self, outputs: Array, targets: Array) -> dict[str, float]:
        """`accuracy`, the share of examples whose largest logit is the right class; with over 10 classes also top 5."""
        self.require_logits(outputs, targets)
        found = {"accuracy": float(np.mean(outputs.argmax(axis=1) == targets))}
        if outputs.shape[1] > 10:
            best = np.argpartition(-outputs, 5, axis=1)[:, :5]
            found["top5_accuracy"] = float(np.mean((best == targets[:, None]).any(axis=1)))
        return found

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        self.require_logits(outputs, targets)
        return wilson(int(np.sum(outputs.argmax(axis=1) == targets)), len(targets))
