"""A part of the data by its labels: what an expert learns, and what it teaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compress.data.dataset import Data
from compress.data.digests import text_digest
from compress.data.splits import Split, Subset
from compress.errors import UsageError
from compress.suggest import unknown


def class_numbers_of(
    classes: Sequence[str | int] | None, labels: Sequence[str] | None, where: str
) -> tuple[int, ...] | None:
    """Class numbers of names or numbers; None (all) stays None. `where` is the setting, for messages.

    Raises:
        UsageError: a name that no class has, or a number that is none's.
    """
    if classes is None:
        return None
    found = []
    for name in classes:
        if isinstance(name, str):
            if labels is None or name not in labels:
                raise UsageError(f"{where}: {unknown('class', name, labels or ())}")
            found.append(labels.index(name))
        elif name < 0 or (labels is not None and name >= len(labels)):
            raise UsageError(f"{where}: there is no class {name}")
        else:
            found.append(name)
    return tuple(found)


def within(data: Data, classes: tuple[int, ...] | None) -> Data:
    """The data with only the training and validation examples of some classes; None: unchanged.

    Raises:
        UsageError: targets are no classes, or a split has no such examples.
    """
    if classes is None:
        return data

    def part(split: Split, name: str) -> Split:
        targets = split.targets(np.arange(len(split)))
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise UsageError("classes: the data's targets are no classes")
        chosen = np.flatnonzero(np.isin(targets, classes)).astype(np.int64)
        if not len(chosen):
            raise UsageError(f"classes: the {name} split has no example of these classes")
        return Subset(split, chosen)

    return replace(
        data,
        train=part(data.train, "training"),
        validation=part(data.validation, "validation"),
        fingerprint=data.fingerprint and text_digest({"data": data.fingerprint, "classes": list(classes)}),
        _prepared={},
        _encoded={},
    )
