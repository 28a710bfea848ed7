"""What a quantized file loses against the float one it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from compress.bare.samples import Samples
from compress.errors import UsageError
from compress.quantization.observe import Watching
from compress.quantization.outputs import changed_share, relative_error

Array = NDArray[Any]
MEANINGS = {
    "accuracy": "share of samples answered rightly",
    "agreement": "share of samples on which the greatest output is the float file's",
    "relative_error": "squared error of the outputs over their variance",
}


@dataclass(frozen=True)
class Judgement:
    """`metric` is `accuracy`, `agreement` or `relative_error`; `value` its value; `loss` what is lost to the float."""

    metric: str
    value: float
    loss: float


class Judge:
    """Holds a graph's outputs against the float graph's, and against labels where there are any.

    Raises:
        UsageError: The graph has no float output, or one that does not have a row for each sample.
    """

    def __init__(self, floating: ModelProto, samples: Samples, batch: int, *, fixed: bool, threads: int = 1) -> None:
        self.samples, self.threads = samples, threads
        self.outputs = [value.name for value in floating.graph.output if value.type.tensor_type.elem_type == 1]
        if not self.outputs:
            raise UsageError("the model has no output of float32 to judge by: give one that ends before its ArgMax")
        self.feeds = samples.batches(batch, fixed=fixed)
        self.reference = self.answers(floating)
        first = self.reference[self.outputs[0]]
        self.classes = (
            len(self.outputs) == 1 and first.ndim >= 2 and first.shape[1] > 1 and first[0].size == first.shape[1]
        )

    @property
    def metric(self) -> str:
        """What is judged by."""
        if not self.classes:
            return "relative_error"
        return "agreement" if self.samples.labels is None else "accuracy"

    def answers(self, proto: ModelProto) -> dict[str, Array]:
        """The float outputs for all samples."""
        watching = Watching(proto, self.outputs, self.threads)
        found = [watching(feeds) for feeds in self.feeds]
        for feeds, batch in zip(self.feeds, found, strict=True):
            rows = len(next(iter(feeds.values())))
            for name, array in batch.items():
                if array.shape[:1] != (rows,):
                    raise UsageError(
                        f"output {name} has shape {list(array.shape)} for {rows} samples: a row for each is wanted"
                    )
        joined = {name: np.concatenate([batch[name] for batch in found]) for name in self.outputs}
        return {name: array[: len(self.samples)] for name, array in joined.items()}

    def __call__(self, proto: ModelProto) -> Judgement:
        """Of a graph of the same inputs and outputs."""
        return self.judge(self.answers(proto))

    def judge(self, answers: dict[str, Array]) -> Judgement:
        """Of its answers."""
        if not self.classes:
            errors = [relative_error(answers[name], self.reference[name]) for name in self.outputs]
            error = float(np.mean(errors)) if np.isfinite(errors).all() else float("inf")
            return Judgement("relative_error", error, error)
        ours, theirs = (found[self.outputs[0]].reshape(len(self.samples), -1) for found in (answers, self.reference))
        if self.samples.labels is None:
            changed = changed_share(ours, theirs)
            return Judgement("agreement", 1 - changed, changed)
        labels = self.samples.labels
        right, before = (float(np.mean(found.argmax(1) == labels)) for found in (ours, theirs))
        return Judgement("accuracy", right, before - right)
