"""A data file's settings -> data: open the source, cut the splits that it lacks, limit, name the classes, check."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from compress.data.cut import cut, take
from compress.data.dataset import Data, Opened, Split, Subset
from compress.data.settings import DataSettings
from compress.data.source_settings import SPLITS
from compress.data.sources.digits import open_digits
from compress.data.sources.hub import open_hub
from compress.data.sources.images import open_images
from compress.data.sources.npz import open_npz
from compress.data.sources.python import open_python
from compress.data.sources.table import open_table
from compress.errors import UsageError

SOURCES: dict[str, Callable[[Any, tuple[str, ...] | None], Opened]] = {
    "digits": open_digits,
    "images": open_images,
    "table": open_table,
    "hub": open_hub,
    "npz": open_npz,
    "python": open_python,
}


def open_data(settings: DataSettings) -> Data:
    """The data that `settings` describe. The last data opened stay open: stages of one run share them.

    Raises:
        UsageError: files, columns, shapes or targets are not what the settings say; the message lists what was found.
    """
    return _open(settings.model_dump_json(), settings.fingerprint())


@lru_cache(maxsize=1)
def _open(settings_json: str, fingerprint: str) -> Data:
    settings = DataSettings.model_validate_json(settings_json)
    kind = settings.source.kind
    opened = SOURCES[kind](getattr(settings.source, kind), settings.labels)
    for name, split in opened.splits.items():
        if not len(split):
            raise UsageError(f"data: the {name} split of source {kind} has no examples")
    splits = _limited(_with_all_splits(opened.splits, settings), settings)
    preprocessing = settings.plain_preprocessing()
    if opened.images and not preprocessing:
        preprocessing = ({"image": {"layout": "hwc"}},)
    return Data(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=opened.labels or settings.labels,
        preprocessing=preprocessing,
        augmentation=settings.plain_augmentation(),
        fingerprint=fingerprint,
    )


def _with_all_splits(found: Any, settings: DataSettings) -> dict[str, Split]:
    """`found` with what it lacks of validation and test cut from its training examples."""
    shares = {"validation": settings.split.validation, "test": settings.split.test}
    missing = [name for name in SPLITS if name not in found and name != "train"]
    whole = found["train"]
    if not missing:
        return dict(found)
    targets = whole.targets(np.arange(len(whole)))
    parts = cut(targets, [shares[name] for name in missing], settings.split.seed)
    for name, part in zip([*missing, "train"], parts, strict=True):
        if not len(part):
            raise UsageError(f"data: {len(whole)} training examples are too few to cut a {name} split from")
    cuts = {name: Subset(whole, part) for name, part in zip([*missing, "train"], parts, strict=True)}
    return {**found, **cuts}


def _limited(splits: dict[str, Split], settings: DataSettings) -> dict[str, Split]:
    result = dict(splits)
    for name, count in settings.limit:
        split = splits[name]
        if count is not None and count < len(split):
            result[name] = Subset(split, take(split.targets(np.arange(len(split))), count, settings.split.seed))
    return result
