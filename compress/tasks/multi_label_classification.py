"""Any number of labels for each example. The network gives a logit for each label, over 0 where it gives the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data
from compress.data.split_names import SPLITS
from compress.errors import UsageError
from compress.tasks.classes import Array, all_targets
from compress.tasks.intervals import bootstrap
from compress.tasks.task import Distillation, PerExample

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MultiLabelClassification(PerExample):
    """Binary cross-entropy of each label to train by, F1 over all decisions to judge by."""

    name: ClassVar[str] = "multi-label-classification"
    metric: ClassVar[str] = "f1_micro"
    higher_is_better: ClassVar[bool] = True
    distillation: ClassVar[Distillation] = "values"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy of N x labels logits and targets of 0 and 1, in nats.

        Targets that are nan are not known and do not count; without any known one the loss is 0.
        """
        from torch.nn import functional

        _require_same_shape(tuple(outputs.shape), tuple(targets.shape))
        known = targets.isfinite()
        wanted = targets.nan_to_num().to(outputs.dtype)
        each = functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1)

    def metrics(self, outputs: Array, targets: Array) -> dict[str, float]:
        """`f1_micro`, `f1_macro` and `accuracy`, the share of examples whose labels are all right."""
        return multilabel_metrics(outputs, targets)

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """A 95 % bootstrap interval of the micro F1 over examples."""
        given, right = outputs > 0, targets > 0
        hits = (given & right).sum(axis=1)
        named = given.sum(axis=1) + right.sum(axis=1)

        def statistic(indices: npt.NDArray[np.int64]) -> float:
            return 2 * float(hits[indices].sum()) / max(float(named[indices].sum()), 1.0)

        return bootstrap(statistic, len(targets))

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """Share of all decisions, label by label, in which both models say the same."""
        return float(np.mean((outputs > 0) == (reference_outputs > 0)))

    def check(self, data: Data) -> list[str]:
        """Targets must be one 0 or 1 for each label."""
        faults = []
        for name in SPLITS:
            targets = all_targets(data, name)
            if targets.ndim != 2:
                faults.append(
                    f"{self.name} needs a 0 or 1 for each label, but targets of the {name} split are {targets.dtype} "
                    f"of shape {targets.shape[1:]}; `task: text-classification` learns one class of several"
                )
            elif not np.isin(targets, (0, 1)).all():
                faults.append(f"targets of the {name} split must be 0 or 1 for each label; found others")
            elif data.labels is not None and targets.shape[1] != len(data.labels):
                faults.append(
                    f"the {name} split has {targets.shape[1]} columns of labels, but {len(data.labels)} names"
                )
        return faults

    def output_size(self, data: Data) -> int:
        """The number of labels."""
        return len(data.labels) if data.labels is not None else int(data.target_shape[0])


def multilabel_metrics(logits: Array, targets: Array) -> dict[str, float]:
    """`f1_micro`, `f1_macro` and `accuracy` of label sets; a label is given where its logit is over 0.

    `f1_micro` is over all decisions together, `f1_macro` the mean over labels, `accuracy` the share of examples whose
    whole set is right. A label that is neither given nor right anywhere has an f1 of 0.

    Args:
        logits: (examples, labels).
        targets: (examples, labels), 1 where the label is right, else 0.

    Raises:
        UsageError: the shapes are others.
    """
    from sklearn.metrics import f1_score

    _require_same_shape(logits.shape, targets.shape)
    given, right = (logits > 0).astype(np.int64), (targets > 0).astype(np.int64)
    # As one long list for the micro mean: with a single label, scikit-learn would count its absence as a class too.
    return {
        "f1_micro": float(f1_score(right.ravel(), given.ravel(), zero_division=0)),
        "f1_macro": float(np.mean([f1_score(r, g, zero_division=0) for r, g in zip(right.T, given.T, strict=True)])),
        "accuracy": float(np.mean((given == right).all(axis=1))),
    }


def _require_same_shape(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    if len(outputs) != 2 or outputs != targets:
        raise UsageError(f"multi-label-classification needs one logit a label, {targets}; the network gives {outputs}")
