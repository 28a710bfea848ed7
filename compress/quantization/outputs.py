"""How far a quantized graph's outputs are off: computed by ONNX Runtime, against the float graph's."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from scipy.special import log_softmax

from compress.exporting.emissions import ort_arm, ort_x86
from compress.quantization.observe import Batches, Watching

Array = NDArray[Any]


def relative_error(outputs: Array, reference: Array) -> float:
    """The squared difference over the reference's squared deviation from its mean; 0 if equal."""
    difference = float(np.square(outputs.astype(np.float64) - reference).sum())
    extent = float(np.square(reference - reference.mean(dtype=np.float64)).sum())
    return difference / extent if extent > 0 else difference


def divergence(outputs: Array, reference: Array) -> float:
    """The mean KL divergence of the classes' probabilities, of logits (..., classes), from the reference's."""
    ours, theirs = (log_softmax(found.astype(np.float64), axis=-1) for found in (outputs, reference))
    return float(np.mean((np.exp(theirs) * (theirs - ours)).sum(-1)))


def changed_share(outputs: Array, reference: Array) -> float:
    """The share of examples (rows) whose greatest output is another one."""
    return float(np.mean(outputs.argmax(-1) != reference.argmax(-1)))


def runnable(canonical: ModelProto) -> ModelProto:
    """The emission of a canonical graph that this machine's runtime is fast at: the same numbers."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return ort_x86.emit(canonical) if x86 else ort_arm.emit(canonical)


class OutputError:
    """The error of a canonical graph's outputs on some batches: the mean over the outputs that are float."""

    def __init__(
        self,
        floating: ModelProto,
        batches: Batches,
        threads: int = 1,
        measure: Callable[[Array, Array], float] = relative_error,
    ) -> None:
        self.outputs = [value.name for value in floating.graph.output if value.type.tensor_type.elem_type == 1]
        self.batches, self.threads, self.measure = batches, threads, measure
        self.reference = self.answers(floating)

    def answers(self, proto: ModelProto) -> dict[str, Array]:
        """The float outputs of a graph of the same inputs and outputs on all batches."""
        watching = Watching(proto, self.outputs, self.threads)
        found = [watching(feeds) for feeds in self.batches()]
        return {name: np.concatenate([batch[name] for batch in found]) for name in self.outputs}

    def __call__(self, proto: ModelProto) -> float:
        """The mean over outputs; infinite where one is not finite."""
        answers = self.answers(runnable(proto))
        errors = [self.measure(answers[name], self.reference[name]) for name in self.outputs]
        return float(np.mean(errors)) if np.isfinite(errors).all() else float("inf")
