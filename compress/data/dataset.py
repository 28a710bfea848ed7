"""Examples in memory or on disk behind one face: splits with random access, and batches ready for a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from compress.data.augmentation import augment as augmented
from compress.data.preprocessing import Preprocessing
from compress.errors import UsageError

Array = npt.NDArray[Any]
Indices = Sequence[int] | npt.NDArray[np.integer]

KEEP_BYTES = 512 * 1024**2
"""Preprocessed examples of a split are kept in memory if all of them take less."""


class Split(Protocol):
    """Examples with random access, as they are stored."""

    def __len__(self) -> int:
        """How many there are."""

    def raw(self, indices: Indices) -> list[Array]:
        """The inputs as stored, of any sizes: H x W, H x W x C, vectors, anything without preprocessing."""

    def targets(self, indices: Indices) -> Array:
        """N class numbers (int64), or N x the target's shape (float32)."""


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

    def raw(self, indices: Indices) -> list[Array]:
        """The inputs as stored."""
        return self.whole.raw(self.chosen[np.asarray(indices, dtype=np.int64)])

    def targets(self, indices: Indices) -> Array:
        """The targets as stored."""
        return self.whole.targets(self.chosen[np.asarray(indices, dtype=np.int64)])


@dataclass(frozen=True)
class Opened:
    """What a source gives: its own splits, the class names if it knows them, whether examples are decoded images."""

    splits: Mapping[str, Split]
    labels: tuple[str, ...] | None = None
    images: bool = False


@dataclass(frozen=True)
class Batch:
    """Preprocessed examples.

    `inputs` holds one array for each input of the network, N x anything, float32; `targets` are N class numbers or
    N x the target's shape; `indices` are the examples' numbers in their split.
    """

    inputs: tuple[Array, ...]
    targets: Array
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """A data set ready to use. Choose on `validation`; look at `test` once, for the report."""

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...] | None = None
    preprocessing: tuple[dict[str, Any], ...] = ()
    augmentation: tuple[dict[str, Any], ...] = ()
    fingerprint: str = ""
    input_names: tuple[str, ...] = ("input",)
    _prepared: dict[int, Prepared] = field(default_factory=dict, repr=False, compare=False)

    def batch(self, split: Split, indices: Indices, augment: tuple[int, int] | None = None) -> Batch:
        """Examples of `split`, augmented for (seed, epoch) if `augment` gives them.

        Raises:
            UsageError: preprocessing or augmentation cannot take an example.
        """
        numbers = np.asarray(indices, dtype=np.int64)
        inputs = self._prepared_of(split)(numbers)
        targets = split.targets(numbers)
        if augment is not None and self.augmentation:
            moved = (self.augmentation, *augment, numbers)
            try:
                if self._targets_move:
                    targets = augmented(targets, *moved)
                inputs = augmented(inputs, *moved)
            except ValueError as error:
                raise UsageError(f"data: augmentation: {error}") from error
        return Batch((inputs,), targets, numbers)

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """All examples of `split` in order, without augmentation; the last batch may be short."""
        for start in range(0, len(split), batch_size):
            yield self.batch(split, np.arange(start, min(start + batch_size, len(split))))

    def head(self, count: int) -> Data:
        """The same data with only the first `count` examples of each split, for a rehearsal."""

        def first(split: Split) -> Split:
            return split if len(split) <= count else Subset(split, np.arange(count))

        return replace(
            self,
            train=first(self.train),
            validation=first(self.validation),
            test=first(self.test),
            fingerprint=f"{self.fingerprint}-head-{count}",
            _prepared={},
        )

    @cached_property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each input of one example after preprocessing, without the batch axis."""
        return (tuple(prepare(self.train, self._preprocess, np.arange(1)).shape[1:]),)

    @cached_property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of one example's target; () for a class number."""
        return tuple(self.train.targets([0]).shape[1:])

    @cached_property
    def _preprocess(self) -> Preprocessing:
        try:
            return Preprocessing(self.preprocessing)
        except ValueError as error:
            raise UsageError(f"data: preprocessing: {error}") from error

    @cached_property
    def _targets_move(self) -> bool:
        """Targets that are images of the inputs' size move with them; targets of other places cannot be moved."""
        if len(self.target_shape) < 2:
            return False
        if len(self.target_shape) != 3 or self.target_shape[1:] != self.input_shapes[0][1:]:
            raise UsageError(
                f"data: augmentation moves inputs of shape {self.input_shapes[0]}, but targets of shape "
                f"{self.target_shape} cannot be moved with them; remove `augmentation`"
            )
        return True

    def _prepared_of(self, split: Split) -> Prepared:
        known = self._prepared.get(id(split))
        if known is None or known.split is not split:
            known = self._prepared[id(split)] = Prepared(split, self._preprocess, self.input_shapes[0])
        return known


class Prepared:
    """Preprocessed examples of a split, each kept after its first use if all of them fit in `KEEP_BYTES`."""

    def __init__(self, split: Split, preprocessing: Preprocessing, shape: tuple[int, ...]) -> None:
        self.split = split
        self._preprocessing = preprocessing
        small = len(split) * int(np.prod(shape)) * 4 < KEEP_BYTES
        self._kept = np.empty((len(split), *shape), dtype=np.float32) if small else None
        self._known = np.zeros(len(split), dtype=bool)

    def __call__(self, indices: npt.NDArray[np.int64]) -> Array:
        """A batch, N x the shape."""
        if self._kept is None:
            return prepare(self.split, self._preprocessing, indices)
        new = np.unique(indices[~self._known[indices]])
        if len(new):
            examples = prepare(self.split, self._preprocessing, new)
            if examples.shape[1:] != self._kept.shape[1:]:
                raise UsageError(
                    f"data: preprocessing gives examples of shapes {self._kept.shape[1:]} and {examples.shape[1:]}; "
                    "add `resize`, `center_crop` or `color` so that all come out in one shape"
                )
            self._kept[new] = examples
            self._known[new] = True
        return np.asarray(self._kept[indices])


def prepare(split: Split, preprocessing: Preprocessing, indices: npt.NDArray[np.int64]) -> Array:
    """Preprocessed examples, N x their shape.

    Raises:
        UsageError: preprocessing cannot take an example.
    """
    try:
        return preprocessing(split.raw(indices))
    except ValueError as error:
        raise UsageError(f"data: preprocessing: {error}") from error


def target_array(values: Array) -> Array:
    """Targets as a network's loss reads them: whole numbers of one axis are classes, int64; all else is float32.

    One real number for each example becomes a vector of length one, as a network gives it.
    """
    if values.ndim == 1 and (np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_):
        return np.ascontiguousarray(values, dtype=np.int64)
    floats = np.ascontiguousarray(values, dtype=np.float32)
    return floats[:, None] if floats.ndim == 1 else floats
