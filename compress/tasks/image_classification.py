"""One class of several. The network gives a logit for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.tasks.intervals import wilson
from compress.tasks.task import Distillation, same_class

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ImageClassification:
    """Cross-entropy to train by, accuracy to judge by."""

    name: ClassVar[str] = "image-classification"
    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    distillation: ClassVar[Distillation] = "classes"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of N x classes logits and N class numbers, in nats."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets)

    def metrics(self, outputs: Array, targets: Array) -> dict[str, float]:
        """`accuracy`, the share of examples whose largest logit is the right class; with over 10 classes also top 5."""
        _require_logits(outputs, targets)
        found = {"accuracy": float(np.mean(outputs.argmax(axis=1) == targets))}
        if outputs.shape[1] > 10:
            best = np.argpartition(-outputs, 5, axis=1)[:, :5]
            found["top5_accuracy"] = float(np.mean((best == targets[:, None]).any(axis=1)))
        return found

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        _require_logits(outputs, targets)
        return wilson(int(np.sum(outputs.argmax(axis=1) == targets)), len(targets))

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """Share of examples that both models put into the same class."""
        return same_class(outputs, reference_outputs)

    def check(self, data: Data) -> list[str]:
        """Targets must be class numbers from 0 on; classes that have names must be among them."""
        faults = []
        for name in ("train", "validation", "test"):
            targets = _all_targets(data, name)
            if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
                faults.append(
                    f"image-classification needs one class number or name for each example, but targets of the {name} "
                    f"split are {targets.dtype} of shape {targets.shape[1:]}; `task: regression` learns such values"
                )
            elif targets.min() < 0:
                faults.append(f"class numbers begin at 0, but the {name} split has {targets.min()} (unlabelled?)")
            elif data.labels is not None and targets.max() >= len(data.labels):
                faults.append(f"the {name} split has class {targets.max()}, but there are {len(data.labels)} labels")
        if not faults and data.labels is None:
            seen = np.unique(_all_targets(data, "train"))
            if len(seen) != seen[-1] + 1:
                missing = sorted(set(range(int(seen[-1]))) - set(seen.tolist()))[:5]
                faults.append(
                    f"no training example of class {', '.join(map(str, missing))} of 0 to {seen[-1]}; number the "
                    "classes without gaps, or name all of them in `labels`"
                )
        return faults

    def output_size(self, data: Data) -> int:
        """The number of classes."""
        if data.labels is not None:
            return len(data.labels)
        return 1 + max(int(_all_targets(data, name).max()) for name in ("train", "validation", "test"))


def _all_targets(data: Data, name: str) -> Array:
    split = getattr(data, name)
    targets: Array = split.targets(np.arange(len(split)))
    return targets


def _require_logits(outputs: Array, targets: Array) -> None:
    if outputs.ndim != 2 or len(outputs) != len(targets):
        raise UsageError(
            f"image-classification needs one logit a class, {len(targets)} x classes; the network gives {outputs.shape}"
        )
