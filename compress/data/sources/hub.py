"""Hugging Face data sets by hub name or local folder, through the `datasets` library, which memory-maps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from compress.data.arrow_values import no_column
from compress.data.columns import Wanted, open_columns
from compress.data.digests import text_digest
from compress.data.source_settings import Hub, column_names
from compress.data.split_names import SPLIT_WORDS, SPLITS, UNLABELLED
from compress.data.splits import Opened
from compress.data.text_settings import TextSettings
from compress.errors import UsageError


def open_hub(settings: Hub, labels: tuple[str, ...] | None, text: TextSettings | None = None) -> Opened:
    """The data set's splits, downloaded on first use if it is named.

    Raises:
        UsageError: the data set, its configuration, a split or a column does not exist, or `datasets` is missing.
    """
    found = _load(settings)
    names = _split_names(settings, list(found))
    identity = text_digest(settings.identity())
    targets = column_names(settings.target, text.rationale if text else None)
    tables = {}
    for ours, theirs in names.items():
        columns = column_names(settings.input, () if ours == UNLABELLED else tuple(targets))
        tables[ours] = _table(found[theirs], columns, theirs)
    content = {ours: f"{identity}-{theirs}" for ours, theirs in names.items()}
    # Images of a local folder of files are named by absolute paths, to which no folder needs to be added.
    wanted = Wanted(settings.input, settings.target, labels, settings.path or Path("/"), text)
    return open_columns(tables, wanted, content)


def _load(settings: Hub) -> dict[str, Any]:
    """Every split of the data set by its own name."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError("source hub needs the package `datasets`: pip install 'compress-toolkit[text]'") from error
    try:
        if settings.path is not None and _is_saved(settings.path):
            loaded = datasets.load_from_disk(str(settings.path))
        else:
            where = settings.name if settings.path is None else str(settings.path)
            commit = settings.commit() if settings.path is None else None
            loaded = datasets.load_dataset(where, settings.config, revision=commit)
    except UsageError:
        raise
    except Exception as error:  # the library raises what its back ends raise: of hub, file system and parsers
        what = settings.name or settings.path
        raise UsageError(f"data: cannot load the data set {what}: {type(error).__name__}: {error}") from error
    return {"train": loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)


def _is_saved(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _split_names(settings: Hub, found: list[str]) -> dict[str, str]:
    """Our names of splits -> the data set's."""
    if settings.splits is not None:
        for ours, theirs in settings.splits.items():
            if theirs not in found:
                raise UsageError(f"data: splits.{ours}: no split {theirs!r}; the data set has {', '.join(found)}")
        return settings.splits
    names = {ours: next((name for name in SPLIT_WORDS[ours] if name in found), None) for ours in SPLITS}
    if names["train"] is None:
        raise UsageError(f"data: which split to train on? The data set has {', '.join(found)}; name it in `splits`")
    return {ours: theirs for ours, theirs in names.items() if theirs is not None}


def _table(split: Any, wanted: list[str], name: str) -> pa.Table:
    """The wanted columns as a memory-mapped Arrow table, images as they are stored."""
    import datasets

    for column in wanted:
        if column not in split.features:
            there = [(key, type(value).__name__) for key, value in split.features.items()]
            raise no_column(column, f"the split {name!r}", there)
        if isinstance(split.features[column], datasets.Image):
            split = split.cast_column(column, datasets.Image(decode=False))
    table = split.select_columns(wanted).with_format("arrow")[:]
    kinds = {column: getattr(kind, "feature", kind) for column, kind in split.features.items()}  # of lists their items'
    named = {c: {"names": kind.names} for c, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": named}})})
