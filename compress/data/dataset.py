"""Examples in memory or on disk behind one face: splits with random access, and batches ready for a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.augmentation import augment as augmented
from compress.data.augmentation import mixed
from compress.data.mixing import Others, mixes
from compress.data.objectives import Collate, Encoded, Labelled
from compress.data.prepared import Prepared, prepare
from compress.data.preprocessing import Preprocessing
from compress.data.splits import Array, ArraySplit, Indices, Opened, Split, Subset, hidden, target_array
from compress.data.text import TextEncoder
from compress.errors import UsageError

__all__ = ["Array", "ArraySplit", "Batch", "Data", "Indices", "Opened", "Split", "Subset", "target_array"]

_LABELLED = Labelled()
_ENCODING = Lock()
"""Threads that read ahead wait for the one that encodes a split first."""


@dataclass(frozen=True)
class Batch:
    """Preprocessed examples.

    `inputs` holds one array for each input of the network: N x anything, float32; of texts N x tokens, int64, filled up
    on the right. `targets` are N class numbers (-1: not known) or N x the target's shape; N x tokens, int64, for
    modelling language. `indices` are the examples' numbers in their split.
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
    unlabelled: Split | None = None
    """More training examples, whose targets are not known."""
    text: TextEncoder | None = None
    """How the texts of the splits become token ids; None where examples are no texts."""
    collate: Collate | None = None
    """What batches of texts are for; None: the splits' own targets."""
    _prepared: dict[int, Prepared] = field(default_factory=dict, repr=False, compare=False)
    _encoded: dict[tuple[int, Collate], tuple[Split, Encoded]] = field(default_factory=dict, repr=False, compare=False)

    def batch(self, split: Split, indices: Indices, augment: tuple[int, int] | None = None) -> Batch:
        """Examples of `split`, augmented for (seed, epoch) if `augment` gives them.

        The targets of those that are mixed with others are not known: -1 for classes, nan for values.

        Raises:
            UsageError: preprocessing or augmentation cannot take an example.
        """
        numbers = np.asarray(indices, dtype=np.int64)
        if self.text is not None:
            return self._text_batch(self.text, split, numbers, augment)
        prepared = self._prepared_of(split)
        inputs, targets = prepared(numbers), split.targets(numbers)
        if augment is not None and self.augmentation:
            moved = (self.augmentation, *augment, numbers)
            try:
                if self._targets_move:
                    targets = augmented(targets, *moved)
                inputs = augmented(inputs, *moved, Others(len(split), prepared))
                targets = hidden(targets, mixed(*moved, len(split)))
            except ValueError as error:
                raise UsageError(f"data: augmentation: {error}") from error
        return Batch((inputs,), targets, numbers)

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """All examples of `split` in order, without augmentation; the last batch may be short."""
        for start in range(0, len(split), batch_size):
            yield self.batch(split, np.arange(start, min(start + batch_size, len(split))))

    @property
    def mixes(self) -> bool:
        """Whether augmentation makes one training example of two, whose target is not known."""
        return mixes(self.augmentation)

    def unmixed(self) -> Data:
        """The same data without the steps of augmentation that mix examples."""
        return replace(self, augmentation=tuple(step for step in self.augmentation if not mixes([step])))

    def collated(self, collate: Collate) -> Data:
        """The same texts in batches of another kind, with the inputs' names that go with it.

        Raises:
            UsageError: the data are no texts, or lack what such batches need.
        """
        if self.text is None:
            raise UsageError("data: this task needs texts: name a tokenizer as `text: {tokenizer: ...}`")
        return replace(self, collate=collate, input_names=collate.names(self.text))

    def lengths(self, split: Split) -> npt.NDArray[np.int64] | None:
        """How many tokens each example of `split` has as an input; None where examples are no texts."""
        return None if self.text is None else self._encoded_of(self.text, split).tokens.lengths

    def head(self, count: int) -> Data:
        """The same data with only the first `count` examples of each split, for a rehearsal."""

        def first(split: Split) -> Split:
            return split if len(split) <= count else Subset(split, np.arange(count))

        return replace(
            self,
            train=first(self.train),
            validation=first(self.validation),
            test=first(self.test),
            unlabelled=None if self.unlabelled is None else first(self.unlabelled),
            fingerprint=self.fingerprint and f"{self.fingerprint}-head-{count}",
            _prepared={},
            _encoded={},
        )

    @cached_property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each input of the first example after preprocessing, without the batch axis."""
        if self.text is not None:
            return tuple(array.shape[1:] for array in self.batch(self.train, [0]).inputs)
        return (tuple(prepare(self.train, self._preprocess, np.arange(1)).shape[1:]),)

    @cached_property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of one example's target in its split; () for a class number."""
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

    def _text_batch(
        self, text: TextEncoder, split: Split, numbers: npt.NDArray[np.int64], augment: tuple[int, int] | None
    ) -> Batch:
        rows = self._encoded_of(text, split).take(numbers)
        inputs, targets = (self.collate or _LABELLED)(text, rows, numbers, augment)
        return Batch(inputs, split.targets(numbers) if targets is None else targets, numbers)

    def _encoded_of(self, text: TextEncoder, split: Split) -> Encoded:
        collate = self.collate or _LABELLED
        with _ENCODING:
            known = self._encoded.get((id(split), collate))
            if known is None or known[0] is not split:
                known = self._encoded[id(split), collate] = split, collate.encode(text, split)
        return known[1]
