"""One class of several, whatever the examples are: what image and text classification have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data
from compress.data.split_names import SPLITS
from compress.data.splits import NO_CLASS
from compress.errors import UsageError
from compress.tasks.task import Distillation, PerExample, same_class

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class OneClass(PerExample):
    """Cross-entropy to train by. The network gives a logit for each class."""

    name: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    distillation: ClassVar[Distillation] = "classes"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of N x classes logits and N class numbers, in nats.

        Examples without a label (-1) do not count; without any label the loss is 0.
        """
        from torch.nn import functional

        total = functional.cross_entropy(outputs, targets, ignore_index=NO_CLASS, reduction="sum")
        return total / targets.ne(NO_CLASS).sum().clamp(min=1)

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """Share of examples that both models put into the same class."""
        return same_class(outputs, reference_outputs)

    def check(self, data: Data) -> list[str]:
        """Targets must be class numbers from 0 on; classes that have names must be among them."""
        faults = []
        for name in SPLITS:
            targets = all_targets(data, name)
            if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
                faults.append(
                    f"{self.name} needs one class number or name for each example, but targets of the {name} "
                    f"split are {targets.dtype} of shape {targets.shape[1:]}; `task: regression` learns such values"
                )
            elif targets.min() < 0:
                faults.append(f"class numbers begin at 0, but the {name} split has {targets.min()} (unlabelled?)")
            elif data.labels is not None and targets.max() >= len(data.labels):
                faults.append(f"the {name} split has class {targets.max()}, but there are {len(data.labels)} labels")
        if not faults and data.labels is None:
            seen = np.unique(all_targets(data, "train"))
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
        return 1 + max(int(all_targets(data, name).max()) for name in SPLITS)

    def require_logits(self, outputs: Array, targets: Array) -> None:
        """UsageError unless there is one row of logits for each target."""
        if outputs.ndim != 2 or len(outputs) != len(targets):
            raise UsageError(
                f"{self.name} needs one logit a class, {len(targets)} x classes; the network gives {outputs.shape}"
            )


def all_targets(data: Data, name: str) -> Array:
    """The targets of all examples of the split called `name`."""
    split = getattr(data, name)
    targets: Array = split.targets(np.arange(len(split)))
    return targets
