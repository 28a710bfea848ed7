"""A data file's settings -> data: open the source, cut the splits that it lacks, limit, name the classes, check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import cast

import numpy as np

from compress.data.blocks import LongText, cut_into_blocks, cut_text, pieces
from compress.data.cut import cut, take
from compress.data.dataset import Data, Opened, Split, Subset
from compress.data.objectives import Labelled
from compress.data.settings import DataSettings
from compress.data.sources.digits import open_digits
from compress.data.sources.hub import open_hub
from compress.data.sources.images import open_images
from compress.data.sources.npz import open_npz
from compress.data.sources.plain_text import open_plain_text
from compress.data.sources.python import open_python
from compress.data.sources.table import open_table
from compress.data.split_names import SPLITS, UNLABELLED
from compress.data.splits import Answered
from compress.data.text import TextEncoder
from compress.data.text_settings import TextSettings
from compress.data.tokenizer import open_encoder
from compress.data.unlabelled import hidden_share, without_targets
from compress.errors import UsageError

SOURCES: dict[str, Callable[..., Opened]] = {
    "digits": open_digits,
    "images": open_images,
    "table": open_table,
    "plain_text": open_plain_text,
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
    texts = () if settings.text is None else (settings.text,)
    opened = SOURCES[kind](getattr(settings.source, kind), settings.labels, *texts)
    for name, split in opened.splits.items():
        if not len(split):
            raise UsageError(f"data: the {name} split of source {kind} has no examples")
    splits = _with_unlabelled(_with_all_splits(opened.splits, settings), settings)
    encoder = None if settings.text is None else _encoder(settings.text, splits["train"])
    if encoder is not None:
        splits = {name: _in_blocks(split, encoder, f"the {name} split") for name, split in splits.items()}
    splits = _limited(splits, settings)
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
        input_names=("input",) if encoder is None else Labelled().names(encoder),
        unlabelled=splits.get(UNLABELLED),
        text=encoder,
    )


def _with_all_splits(found: Mapping[str, Split], settings: DataSettings) -> dict[str, Split]:
    """`found` with what it lacks of validation and test cut from its training examples."""
    shares = {"validation": settings.split.validation, "test": settings.split.test}
    missing = [name for name in SPLITS if name not in found and name != "train"]
    whole = found["train"]
    if not missing:
        return dict(found)
    if isinstance(whole, LongText):
        return {**found, **cut_text(whole, {name: shares[name] for name in missing})}
    targets = whole.targets(np.arange(len(whole)))
    parts = cut(targets, [shares[name] for name in missing], settings.split.seed)
    for name, part in zip([*missing, "train"], parts, strict=True):
        if not len(part):
            raise UsageError(f"data: {len(whole)} training examples are too few to cut a {name} split from")
    cuts = {name: Subset(whole, part) for name, part in zip([*missing, "train"], parts, strict=True)}
    return {**found, **cuts}


def _with_unlabelled(splits: dict[str, Split], settings: DataSettings) -> dict[str, Split]:
    """The splits with the targets hidden of those that have none, and of the share that is to have none."""
    train, share = splits["train"], settings.split.unlabelled
    if UNLABELLED in splits:
        if share is not None:
            raise UsageError("data: split.unlabelled: the source has unlabelled examples of its own; give one of both")
        return {**splits, UNLABELLED: without_targets(splits[UNLABELLED], train)}
    if share is None:
        return splits
    if isinstance(train, LongText):
        raise UsageError("data: split.unlabelled: a plain text has no labels that could be hidden")
    kept, hidden = hidden_share(train, share, settings.split.seed)
    return {**splits, "train": kept, UNLABELLED: hidden}


def _encoder(settings: TextSettings, train: Split) -> TextEncoder:
    return open_encoder(settings, _words_of(train, settings), pair=isinstance(train.raw([0])[0], tuple))


def _words_of(train: Split, settings: TextSettings) -> Iterator[str]:
    """Every text of the training split, targets that are texts among them."""
    if isinstance(train, LongText):
        yield from pieces(train.text)
        return
    everything = np.arange(len(train))
    for text in train.raw(everything):
        yield from (text,) if isinstance(text, str) else text
    if settings.targets == "text":
        yield from cast(Answered, train).target_texts(everything)
        if settings.rationale is not None:
            yield from cast(Answered, train).rationales(everything)


def _in_blocks(split: Split, encoder: TextEncoder, what: str) -> Split:
    return cut_into_blocks(split.text, encoder, what) if isinstance(split, LongText) else split


def _limited(splits: dict[str, Split], settings: DataSettings) -> dict[str, Split]:
    result = dict(splits)
    for name, count in settings.limit:
        split = splits[name]
        if count is not None and count < len(split):
            result[name] = Subset(split, take(split.targets(np.arange(len(split))), count, settings.split.seed))
    return result
