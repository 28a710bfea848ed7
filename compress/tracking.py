"""Optional trackers (TensorBoard, MLflow, Weights & Biases) through Accelerate: settings, curves, the report's numbers.

They are told what the records hold anyway, step by step as these are made, so that tracking changes no key and no file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.errors import Fault, StageError, UsageError
from compress.pipeline import Pipeline
from compress.report.facts import settings_of
from compress.run import Done

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""Tracker -> the package that it needs."""
FOLDER = "tracking"
"""Where trackers that write files do so, in the run's folder."""
TIMES = ("p50_ms", "p90_ms", "p99_ms", "throughput_per_s", "peak_memory_bytes")


class Tracking:
    """The trackers of one run; without any, nothing is done.

    Args:
        pipeline: what is carried out; its settings are the run's hyperparameters.
        folder: of the run.
        own: trackers of one's own (`accelerate.tracking.GeneralTracker`), besides those that the pipeline names.

    Raises:
        UsageError: a tracker's package is missing; says what to install. What it is told later raises StageError if a
            tracker fails.
    """

    def __init__(self, pipeline: Pipeline, folder: Path, own: Sequence[Any] = ()) -> None:
        self.pipeline, self.folder = pipeline, folder
        self.wanted: list[Any] = [*pipeline.tracking, *own]
        self.epochs = 0
        """Epochs of all stages so far: what is logged never goes back in steps, which some trackers would drop."""
        self._accelerator: Any = None
        missing = [name for name in pipeline.tracking if importlib.util.find_spec(PACKAGES[name]) is None]
        if missing:
            told = " ".join(PACKAGES[name] for name in missing)
            names = " and ".join(missing)
            raise UsageError(Fault(f"{names} cannot be used without the package: pip install {told}", where="tracking"))

    def tell_step(self, name: str, done: Done) -> None:
        """The curves of a step that is finished, or was before: losses and validation metrics of each epoch."""
        if not self.wanted:
            return
        for place, epochs in curves(done.record.metrics):
            prefix = "/".join([name, *place])
            for epoch in epochs:
                values = {
                    f"{prefix}/{key}": epoch[key] for key in ("training_loss", "validation_loss", "learning_rate")
                }
                values |= {f"{prefix}/validation_{key}": value for key, value in epoch["validation"].items()}
                self._log(values)
                self.epochs += 1

    def tell_report(self, report: Mapping[str, Any]) -> None:
        """The numbers of `report.json`: of each file its size, its metrics on test data, its times on each target."""
        if self.wanted:
            self._log({key: value for row in report["models"] for key, value in _numbers(row).items()})

    def close(self) -> None:
        """Let the trackers write what they hold."""
        if self._accelerator is not None:
            for tracker in self._accelerator.trackers:
                tracker.finish()
            self._accelerator = None

    def _log(self, values: Mapping[str, Any]) -> None:
        kept = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
        try:
            self._opened().log(kept, step=self.epochs)
        except Exception as error:  # of whatever network, account or disk a tracker writes to
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise StageError(
                f"tracking: a tracker fails ({said}); what was done is kept: mend it, or go on with --set tracking=[]"
            ) from error

    def _opened(self) -> Any:
        """Opened when there is something to say: several processes have met by then."""
        if self._accelerator is None:
            from accelerate import Accelerator

            place = self.folder / FOLDER
            place.mkdir(parents=True, exist_ok=True)
            self._accelerator = Accelerator(log_with=self.wanted, project_dir=str(place))
            self._accelerator.init_trackers(self.pipeline.name, config=flat(settings_of(self.pipeline)))
        return self._accelerator


def curves(metrics: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], list[Mapping[str, Any]]]]:
    """(place, epochs) of each training that a record tells of, at its top or inside, as that after pruning."""
    for key, value in metrics.items():
        if key == "epochs" and isinstance(value, list) and value and "training_loss" in value[0]:
            yield (), value
        elif isinstance(value, Mapping):
            for place, epochs in curves(value):
                yield (*(() if key == "training" else (key,)), *place), epochs


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as `stages.0.train.epochs: 20`; what is no number, text or truth value becomes text."""
    if isinstance(settings, Mapping):
        items = [(str(key), value) for key, value in settings.items()]
    elif isinstance(settings, list | tuple):
        items = [(str(number), value) for number, value in enumerate(settings)]
    else:
        return {prefix: settings if isinstance(settings, bool | int | float | str) else str(settings)}
    found: dict[str, Any] = {}
    for key, item in items:
        found |= flat(item, f"{prefix}.{key}" if prefix else key)
    return found


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of one row of the report."""
    found = {f"report/{row['name']}/{key}": value for key, value in row["metrics"].items()}
    found[f"report/{row['name']}/size_bytes"] = row["size_bytes"]
    for entry in row["latency"]:
        place = f"report/{row['name']}/{entry['target']}/batch_{entry['batch']}"
        found |= {f"{place}/{key}": entry.get(key) for key in TIMES}
    return found
