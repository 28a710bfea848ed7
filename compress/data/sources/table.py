"""Parquet, CSV, TSV, JSON Lines and Arrow files. Large ones become an Arrow file once, which is memory-mapped."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from compress.data.arrow_values import columns_of, no_column
from compress.data.columns import Wanted, open_columns
from compress.data.digests import file_digest, folder_digest
from compress.data.locations import cache_folder
from compress.data.source_settings import Table, column_names
from compress.data.sources.unpacked import unpack_once
from compress.data.split_names import UNLABELLED
from compress.data.splits import Opened
from compress.data.text_settings import TextSettings
from compress.errors import UsageError

IN_MEMORY_BYTES = 256 * 1024**2
"""Files whose needed columns take less when unpacked are read into memory; CSV and JSON are judged by their size."""

JSON_BYTES = 64 * 1024**2
"""How much of a file of JSON Lines is read at a time."""


def open_table(settings: Table, labels: tuple[str, ...] | None, text: TextSettings | None = None) -> Opened:
    """The splits that the files hold.

    Raises:
        UsageError: a file that is no table, or lacks a column; the message lists what it has.
    """
    targets = column_names(settings.target, text.rationale if text else None)
    wanted = Wanted(settings.input, settings.target, labels, settings.folder, text)
    pictures = [] if settings.folder is None else [folder_digest(settings.folder)]
    tables, content = {}, {}
    for split, files in settings.files().items():
        names = column_names(settings.input, () if split == UNLABELLED else tuple(targets))
        strings = targets if text is not None and text.targets == "text" else []
        tables[split] = _joined([_read(file, names, strings) for file in files], files)
        content[split] = " ".join([*map(file_digest, files), str(settings.input), *pictures])
    return open_columns(tables, wanted, content)


def _joined(tables: list[pa.Table], files: tuple[Path, ...]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UsageError(f"data: {', '.join(file.name for file in files)} do not make one table: {error}") from error


def _read(file: Path, wanted: list[str], strings: list[str]) -> pa.Table:
    """The wanted columns; of those in `strings` the words that stand in the file, where it does not say their types."""
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError(f"data: {file} is no table that can be read ({', '.join(READERS)})")
    try:
        return reader(file, wanted, strings)
    except pa.ArrowException as error:
        raise UsageError(f"data: cannot read {file}: {error}") from error


def _read_parquet(file: Path, wanted: list[str], strings: list[str]) -> pa.Table:
    with pa.parquet.ParquetFile(file) as stored:
        schema = stored.schema_arrow
        _require(file, wanted, schema)
        leaves = [stored.metadata.schema.column(i).path.split(".")[0] for i in range(stored.metadata.num_columns)]
        groups = [stored.metadata.row_group(i) for i in range(stored.metadata.num_row_groups)]
        needed = [i for i, name in enumerate(leaves) if name in wanted]
        size = sum(group.column(i).total_uncompressed_size for group in groups for i in needed)
        if size <= IN_MEMORY_BYTES:
            return stored.read(columns=wanted)
        # `iter_batches` yields the wanted columns in the file's own order.
        kept = pa.schema([field for field in schema if field.name in wanted], metadata=schema.metadata)
        return _mapped(file, wanted, kept, lambda: stored.iter_batches(batch_size=1024, columns=wanted))


def _read_csv(file: Path, wanted: list[str], strings: list[str]) -> pa.Table:
    parse = pa.csv.ParseOptions(delimiter="\t" if file.suffix.lower() == ".tsv" else ",", newlines_in_values=True)
    types = dict.fromkeys(strings, pa.string())
    if file.stat().st_size <= IN_MEMORY_BYTES:
        table = pa.csv.read_csv(file, parse_options=parse, convert_options=pa.csv.ConvertOptions(column_types=types))
        _require(file, wanted, table.schema)
        return table.select(wanted)
    with pa.csv.open_csv(file, parse_options=parse) as rows:
        _require(file, wanted, rows.schema)
        convert = pa.csv.ConvertOptions(include_columns=wanted, column_types=types)
    with pa.csv.open_csv(file, parse_options=parse, convert_options=convert) as rows:
        columns = [f"{field.name}: {field.type}" for field in rows.schema]  # types that the file does not say
        return _mapped(file, columns, rows.schema, lambda: rows)


def _read_arrow(file: Path, wanted: list[str], strings: list[str]) -> pa.Table:
    source = pa.memory_map(str(file))
    try:
        table = pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:  # written as a stream, as Hugging Face's cache files are
        table = pa.ipc.open_stream(source).read_all()
    _require(file, wanted, table.schema)
    return table.select(wanted)


def _read_json(file: Path, wanted: list[str], strings: list[str]) -> pa.Table:
    with file.open("rb") as stream:
        rows = _json_batches(stream)
        first = next(rows, None)
        if first is None:
            raise UsageError(f"data: {file} has no rows: one JSON object a line is read")
        _require(file, wanted, first.schema)
        kept = pa.schema([first.schema.field(name) for name in wanted])
        batches = (batch.cast(kept) for part in chain([first], rows) for batch in part.select(wanted).to_batches())
        if file.stat().st_size <= IN_MEMORY_BYTES:
            return pa.Table.from_batches(list(batches), kept)
        return _mapped(file, wanted, kept, lambda: batches)


def _json_batches(stream: IO[bytes]) -> Iterator[pa.Table]:
    """The rows of a file of JSON Lines, some megabytes of whole lines at a time; types are those of the first."""
    while lines := stream.readlines(JSON_BYTES):
        content = b"".join(lines)
        if content.strip():
            options = pa.json.ReadOptions(block_size=len(content) + 1)
            yield pa.json.read_json(io.BytesIO(content), read_options=options)


READERS: dict[str, Callable[[Path, list[str], list[str]], pa.Table]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json,
    ".json": _read_json,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
}


def _require(file: Path, wanted: list[str], schema: pa.Schema) -> None:
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise no_column(missing[0], str(file), columns_of(schema))


def _mapped(file: Path, columns: list[str], schema: pa.Schema, batches: Callable[[], Iterator[Any]]) -> pa.Table:
    """A memory map of an Arrow file, made once; `columns` and the content of `file` say what is in it."""
    key = hashlib.sha256(f"{file_digest(file)} {sorted(columns)}".encode()).hexdigest()
    target = cache_folder() / "tables" / f"{key}.arrow"

    def write(stream: IO[bytes]) -> None:
        with pa.ipc.new_file(stream, schema) as writer:
            for batch in batches():
                writer.write_batch(batch)

    unpack_once(file, target, write)
    return pa.ipc.open_file(pa.memory_map(str(target))).read_all()
