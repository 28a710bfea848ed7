"""Examples without labels: they train on the teacher's soft answers alone, or on labels that it is sure of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data
from compress.data.digests import text_digest
from compress.data.random_bits import key_of, random_order
from compress.data.splits import Array, Indices, Split, Subset
from compress.distillation.teacher_settings import PseudoLabels
from compress.errors import UsageError

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Joined:
    """The examples of one split, then those of another."""

    first: Split
    second: Split

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs as stored."""
        numbers = np.asarray(indices, dtype=np.int64)
        found: list[Any] = [None] * len(numbers)
        for split, places, own in self._parts(numbers):
            for place, example in zip(places, split.raw(own), strict=True):
                found[int(place)] = example
        return found

    def targets(self, indices: Indices) -> Array:
        """The targets as stored."""
        numbers = np.asarray(indices, dtype=np.int64)
        like = self.first.targets([0])
        found = np.empty((len(numbers), *like.shape[1:]), dtype=like.dtype)
        for split, places, own in self._parts(numbers):
            found[places] = split.targets(own)
        return found

    def target_texts(self, indices: Indices) -> list[str]:
        """The target texts as stored; UsageError where the others' are not known."""
        return self._texts(indices, "target_texts")

    def rationales(self, indices: Indices) -> list[str]:
        """The rationales as stored; UsageError where the others' are not known."""
        return self._texts(indices, "rationales")

    def _texts(self, indices: Indices, kind: Literal["target_texts", "rationales"]) -> list[str]:
        numbers = np.asarray(indices, dtype=np.int64)
        found = [""] * len(numbers)
        for split, places, own in self._parts(numbers):
            for place, text in zip(places, getattr(split, kind)(own), strict=True):
                found[int(place)] = text
        return found

    def _parts(self, numbers: Numbers) -> list[tuple[Split, Numbers, Numbers]]:
        """(split, places in `numbers`, numbers in that split) for both, where they have any."""
        inside = numbers < len(self.first)
        parts = [
            (self.first, np.flatnonzero(inside), numbers[inside]),
            (self.second, np.flatnonzero(~inside), numbers[~inside] - len(self.first)),
        ]
        return [part for part in parts if len(part[1])]


@dataclass(frozen=True)
class Relabelled:
    """Another split's inputs with other class numbers."""

    whole: Split
    classes: Numbers

    def __len__(self) -> int:
        return len(self.whole)

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs as stored."""
        return self.whole.raw(indices)

    def targets(self, indices: Indices) -> Array:
        """The other class numbers."""
        return self.classes[np.asarray(indices, dtype=np.int64)]


def with_unlabelled(data: Data) -> Data:
    """The data with their unlabelled examples behind the training examples; unchanged where there are none."""
    if data.unlabelled is None:
        return data
    return _joined(data, data.unlabelled, "unlabelled")


def pseudo_labelled(data: Data, probabilities: Array, settings: PseudoLabels, seed: int) -> tuple[Data, dict[str, Any]]:
    """The data with those unlabelled examples behind the training examples that the teacher is sure of.

    Args:
        data: has unlabelled examples.
        probabilities: the teacher's, unlabelled examples x classes.
        settings: how sure, and whether classes are balanced.
        seed: which examples are taken twice where a class has too few.

    Returns:
        The data, and what was chosen, for the record: `examples`, `by_class`, `mean_confidence`.

    Raises:
        UsageError: the teacher is sure of none.
    """
    assert data.unlabelled is not None
    chosen = choose(probabilities, settings, seed)
    if not len(chosen):
        best = float(probabilities.max())
        raise UsageError(
            f"pseudo_labels: the teacher is not sure enough of any of the {len(probabilities)} unlabelled examples "
            f"(threshold {settings.threshold:g}, its surest {best:.3f}): lower the threshold"
        )
    classes = probabilities.argmax(axis=1)[chosen].astype(np.int64)
    labelled = Relabelled(Subset(data.unlabelled, chosen), classes)
    digest = text_digest({"chosen": chosen.tolist(), "classes": classes.tolist()})
    log: Mapping[str, Any] = {
        "examples": len(chosen),
        "by_class": np.bincount(classes, minlength=probabilities.shape[1]).tolist(),
        "mean_confidence": float(probabilities.max(axis=1)[chosen].mean()),
    }
    return _joined(data, labelled, digest), dict(log)


def choose(probabilities: Array, settings: PseudoLabels, seed: int) -> Numbers:
    """The numbers of the examples to label, ascending; one number may come several times if classes are balanced.

    Balanced, each class that the teacher gives at all gets as many as the mean class has: of a larger class the surest,
    of a smaller one all, and some again (Xie et al. 2020, "Self-training with Noisy Student", section 3.1).
    """
    confidence, classes = probabilities.max(axis=1), probabilities.argmax(axis=1)
    sure = np.flatnonzero(confidence >= settings.threshold)
    if not settings.balance or not len(sure):
        return sure.astype(np.int64)
    present = np.unique(classes[sure])
    size = max(1, round(len(sure) / len(present)))
    parts = []
    for number in present:
        own = sure[classes[sure] == number]
        own = own[np.argsort(-confidence[own], kind="stable")][:size]
        parts.append(own)
        missing = size - len(own)
        while missing > 0:
            again = own[random_order(key_of(seed, int(number), missing), len(own))][:missing]
            parts.append(again)
            missing -= len(again)
    return np.sort(np.concatenate(parts)).astype(np.int64)


def _joined(data: Data, more: Split, digest: str) -> Data:
    """`more` behind the training examples; data without a fingerprint are known by their content, and still are."""
    return replace(
        data,
        train=Joined(data.train, more),
        unlabelled=None,
        fingerprint=data.fingerprint and text_digest({"data": data.fingerprint, "more": digest}),
        _prepared={},
        _encoded={},
    )
