"""Values of any shape: a number, a vector, an image. The network gives values of the targets' shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data
from compress.data.split_names import SPLITS
from compress.errors import UsageError
from compress.tasks.intervals import bootstrap_mean
from compress.tasks.task import Distillation, PerExample, same_values

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Regression(PerExample):
    """Mean squared or mean absolute error, to train and to judge by."""

    error: Literal["mse", "l1"] = "mse"
    name: ClassVar[str] = "regression"
    higher_is_better: ClassVar[bool] = False
    distillation: ClassVar[Distillation] = "values"

    @property
    def metric(self) -> str:
        """`mse` (mean squared error) or `mae` (mean absolute error), in the targets' unit (squared for `mse`)."""
        return "mse" if self.error == "mse" else "mae"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean error over all values of the batch that are known; nan stands for one that is not."""
        from torch.nn import functional

        aligned = targets.to(outputs.dtype).reshape(_shape(tuple(outputs.shape), tuple(targets.shape)))
        known = aligned.isfinite()
        wanted = aligned.where(known, outputs.detach())
        error = functional.mse_loss if self.error == "mse" else functional.l1_loss
        return error(outputs, wanted, reduction="sum") / known.sum().clamp(min=1)

    def metrics(self, outputs: Array, targets: Array) -> dict[str, float]:
        """`mse` and `mae`, the chosen one first, and `r2`, the share of the targets' variance that is explained.

        Where each target is one number, `pearson` and `spearman` correlations besides.
        """
        difference = _difference(outputs, targets)
        squared = float(np.mean(difference**2))
        errors = {"mse": squared, "mae": float(np.mean(np.abs(difference)))}
        variance = float(np.var(targets, axis=0, dtype=np.float64).mean())
        explained = 1 - squared / variance if variance > 0 else float(squared == 0)
        found = {self.metric: errors.pop(self.metric), **errors, "r2": explained}
        if difference.size == len(targets):
            found |= correlations(outputs, targets)
        return found

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """A 95 % bootstrap interval of the primary metric over examples."""
        difference = _difference(outputs, targets).reshape(len(targets), -1)
        errors = difference**2 if self.error == "mse" else np.abs(difference)
        return bootstrap_mean(errors.mean(axis=1))

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """Share of values within 1 % of the range of the reference's values."""
        return same_values(outputs, reference_outputs)

    def check(self, data: Data) -> list[str]:
        """Targets must have one shape in all splits, and their first examples must be finite."""
        faults = []
        for name in SPLITS:
            split = getattr(data, name)
            targets = split.targets(np.arange(min(256, len(split))))
            if targets.shape[1:] != data.target_shape:
                faults.append(f"targets of {name} have shape {targets.shape[1:]}, those of train {data.target_shape}")
            if not np.isfinite(targets).all():
                faults.append(f"targets of the {name} split hold values that are not finite")
        return faults

    def output_size(self, data: Data) -> tuple[int, ...]:
        """The shape of one target; (1,) for a number."""
        return data.target_shape or (1,)


def correlations(values: Array, targets: Array) -> dict[str, float]:
    """`pearson` and `spearman` correlation of single values with their targets.

    Args:
        values: (examples,) or (examples, 1).
        targets: (examples,) or (examples, 1).

    Raises:
        UsageError: the numbers of values differ, or there are none.
    """
    from scipy.stats import pearsonr, spearmanr

    if values.size != targets.size or values.size != len(targets) or not values.size:
        raise UsageError(f"needs one value an example, {targets.shape}; the network gives {values.shape}")
    found, wanted = values.reshape(-1).astype(np.float64), targets.reshape(-1).astype(np.float64)
    # The correlation with a constant is 0 / 0. A network that always says the same knows nothing of the order: 0.
    constant = np.ptp(found) == 0 or np.ptp(wanted) == 0
    return {
        "pearson": 0.0 if constant else float(pearsonr(found, wanted).statistic),
        "spearman": 0.0 if constant else float(spearmanr(found, wanted).statistic),
    }


def _difference(outputs: Array, targets: Array) -> npt.NDArray[np.float64]:
    aligned = targets.reshape(_shape(outputs.shape, targets.shape)).astype(np.float64)
    return np.asarray(outputs.astype(np.float64) - aligned)


def _shape(outputs: tuple[int, ...], targets: tuple[int, ...]) -> tuple[int, ...]:
    """The outputs' shape, if it differs from the targets' at most in axes of length one; nothing is broadcast."""
    if [size for size in outputs if size != 1] != [size for size in targets if size != 1]:
        raise UsageError(
            f"regression needs outputs of the targets' shape {targets[1:]}; the network gives {outputs[1:]}"
        )
    return outputs
