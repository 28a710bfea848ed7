"""Examples with random access, as a source stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from compress.errors import UsageError

Array = npt.NDArray[Any]
Indices = Sequence[int] | npt.NDArray[np.integer]

NO_CLASS = -1
"""The class of an example whose class is not known: it carries no loss of labels."""


class Split(Protocol):
    """Examples with random access, as they are stored."""

    def __len__(self) -> int:
        """How many there are."""

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs as stored: arrays (H x W, H x W x C, vectors, anything without preprocessing); texts or tuples."""

    def targets(self, indices: Indices) -> Array:
        """N class numbers (int64), or N x the target's shape (float32)."""


class Answered(Split, Protocol):
    """Texts whose targets are texts also."""

    def target_texts(self, indices: Indices) -> list[str]:
        """What is to be said."""

    def rationales(self, indices: Indices) -> list[str]:
        """Why it is to be said: a chain of thought."""


@dataclass(frozen=True)
class ArraySplit:
    """Inputs and targets in arrays, or memory-mapped files, whose first axis is the example."""

    inputs: Array | Sequence[Array]
    outputs: Array

    def __len__(self) -> int:
        return len(self.outputs)

    def raw(self, indices: Indices) -> list[Array]:
        """The inputs as stored."""
        return [np.asarray(self.inputs[int(index)]) for index in indices]

    def targets(self, indices: Indices) -> Array:
        """The targets as stored."""
        return target_array(self.outputs[np.asarray(indices, dtype=np.int64)])


@dataclass(frozen=True)
class Subset:
    """Some examples of another split."""

    whole: Split
    chosen: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs as stored."""
        return self.whole.raw(self._inside(indices))

    def targets(self, indices: Indices) -> Array:
        """The targets as stored."""
        return self.whole.targets(self._inside(indices))

    def target_texts(self, indices: Indices) -> list[str]:
        """The target texts as stored, where there are such."""
        return cast(Answered, self.whole).target_texts(self._inside(indices))

    def rationales(self, indices: Indices) -> list[str]:
        """The rationales as stored, where there are such."""
        return cast(Answered, self.whole).rationales(self._inside(indices))

    def _inside(self, indices: Indices) -> npt.NDArray[np.int64]:
        return self.chosen[np.asarray(indices, dtype=np.int64)]


@dataclass(frozen=True)
class Unlabelled:
    """Another split's inputs; its targets are hidden: `NO_CLASS` for classes, nan in the shape of other targets."""

    whole: Split
    target_shape: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.whole)

    def raw(self, indices: Indices) -> list[Any]:
        """The inputs as stored."""
        return self.whole.raw(indices)

    def targets(self, indices: Indices) -> Array:
        """What says that there is no target."""
        if not self.target_shape:
            return no_classes(len(indices))
        return np.full((len(indices), *self.target_shape), np.nan, dtype=np.float32)

    def target_texts(self, indices: Indices) -> list[str]:
        """There are none."""
        raise UsageError("data: the targets of unlabelled examples are not known: there is no text to learn")

    def rationales(self, indices: Indices) -> list[str]:
        """There are none."""
        return self.target_texts(indices)


@dataclass(frozen=True)
class Opened:
    """What a source gives: its own splits, the class names if it knows them, whether examples are decoded images."""

    splits: Mapping[str, Split]
    labels: tuple[str, ...] | None = None
    images: bool = False


def hidden(targets: Array, chosen: npt.NDArray[np.bool_]) -> Array:
    """The targets without those that are chosen: `NO_CLASS` in the place of classes, nan in that of other targets."""
    if not chosen.any():
        return targets
    targets = targets.copy()
    targets[chosen] = NO_CLASS if targets.ndim == 1 else np.nan
    return targets


def no_classes(count: int) -> npt.NDArray[np.int64]:
    """The targets of examples whose classes are not known."""
    return np.full(count, NO_CLASS, dtype=np.int64)


def target_array(values: Array) -> Array:
    """Targets as a network's loss reads them: whole numbers of one axis are classes, int64; all else is float32.

    One real number for each example becomes a vector of length one, as a network gives it.

    Raises:
        UsageError: they are no numbers.
    """
    if values.ndim == 1 and (np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_):
        return np.ascontiguousarray(values, dtype=np.int64)
    try:
        floats = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"data: targets must be numbers ({error}); of classes give the numbers, and the names as `labels`"
        ) from error
    return floats[:, None] if floats.ndim == 1 else floats
