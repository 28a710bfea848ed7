"""A task of the user's own: a function that returns a loss and a metric.

    def my_task(margin=1.0):
        return {
            "loss": lambda outputs, targets: ...,          # torch tensors -> a scalar, the mean over the batch
            "metric": lambda outputs, targets: ...,        # NumPy arrays -> a number, or {name: number}, primary first
            "higher_is_better": True,
        }

It may name more: `metric_name` (default `metric`), `distillation` (`values`, or `classes` where outputs are logits),
`agreement` (two arrays -> a share; default by `distillation`), `output_size` (data -> number or shape; default the
target's shape).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.tasks.intervals import bootstrap
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Distillation, Metrics, PerExample, same_class, same_values
from compress.user_code import call, load_function

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]

INTERVAL_DRAWS = 200
"""Resamples for the interval of a metric that only the user's function can compute."""

_REQUIRED = ("loss", "metric", "higher_is_better")
_OPTIONAL = ("metric_name", "distillation", "agreement", "output_size")


@dataclass(frozen=True)
class PythonTask(PerExample):
    """The user's functions behind the face of a task; their failures are told with the user's own line."""

    name: str
    metric: str
    higher_is_better: bool
    distillation: Distillation
    loss_function: Callable[[Any, Any], Any]
    metric_function: Callable[[Array, Array], Any]
    agreement_function: Callable[[Array, Array], float] | None = None
    size_function: Callable[[Data], Any] | None = None

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The user's loss, which must be a scalar."""
        value = call(f"{self.name}, loss", self.loss_function, outputs, targets)
        if getattr(value, "ndim", None) != 0:
            what = getattr(value, "shape", type(value).__name__)
            raise UsageError(f"{self.name}: the loss must be a scalar tensor, the mean over the batch; got {what}")
        return value  # type: ignore[no-any-return]

    def metrics(self, outputs: Array, targets: Array) -> Metrics:
        """The user's metric or metrics, the primary one first."""
        value = call(f"{self.name}, metric", self.metric_function, outputs, targets)
        found = value if isinstance(value, Mapping) else {self.metric: value}
        if self.metric not in found:
            raise UsageError(f"{self.name}: the metric gives {', '.join(found)}, but not {self.metric!r}")
        ordered = {self.metric: found[self.metric], **found}
        try:
            return {str(key): float(number) for key, number in ordered.items()}
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.name}: a metric must be a number or {{name: number}}: {error}") from error

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """A 95 % bootstrap interval of the primary metric over examples."""

        def statistic(indices: npt.NDArray[np.int64]) -> float:
            return self.metrics(outputs[indices], targets[indices])[self.metric]

        return bootstrap(statistic, len(targets), draws=INTERVAL_DRAWS)

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """The user's agreement; else the share of equal classes, or of values within 1 % of the reference's range."""
        if self.agreement_function is not None:
            return float(call(f"{self.name}, agreement", self.agreement_function, outputs, reference_outputs))
        return (same_class if self.distillation == "classes" else same_values)(outputs, reference_outputs)

    def check(self, data: Data) -> list[str]:
        """Nothing: only the user's functions know what they take."""
        return []

    def output_size(self, data: Data) -> int | tuple[int, ...]:
        """The user's size; else the number of classes, or the target's shape."""
        if self.size_function is not None:
            size = call(f"{self.name}, output_size", self.size_function, data)
            return int(size) if np.ndim(size) == 0 else tuple(int(side) for side in size)
        if self.distillation == "classes" and data.labels is not None:
            return len(data.labels)
        return data.target_shape or (1,)


def open_python_task(settings: TaskSettings) -> PythonTask:
    """The task that the user's function returns.

    Raises:
        UsageError: the function fails, or returns something else than its contract says.
    """
    spec = settings.name
    parts = call(spec, load_function(spec), **settings.arguments)
    if not isinstance(parts, Mapping):
        raise UsageError(f"task {spec} must return a mapping with {', '.join(_REQUIRED)}; got {type(parts).__name__}")
    missing = [key for key in _REQUIRED if key not in parts]
    unknown = sorted(set(parts) - {*_REQUIRED, *_OPTIONAL})
    if missing or unknown:
        faults = [f"task {spec}: the mapping that it returns lacks {key!r}" for key in missing]
        faults += [f"task {spec}: unknown key {key!r}; known: {', '.join(_REQUIRED + _OPTIONAL)}" for key in unknown]
        raise UsageError("\n".join(faults))
    distillation = parts.get("distillation", "values")
    if distillation not in ("classes", "values"):
        raise UsageError(f"task {spec}: distillation must be classes or values, got {distillation!r}")
    for key in ("loss", "metric", "agreement", "output_size"):
        if parts.get(key) is not None and not callable(parts[key]):
            raise UsageError(f"task {spec}: {key!r} must be a function, got {type(parts[key]).__name__}")
    return PythonTask(
        name=settings.plain()["name"],
        metric=str(parts.get("metric_name", "metric")),
        higher_is_better=bool(parts["higher_is_better"]),
        distillation=distillation,
        loss_function=parts["loss"],
        metric_function=parts["metric"],
        agreement_function=parts.get("agreement"),
        size_function=parts.get("output_size"),
    )
