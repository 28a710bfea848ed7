from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.data.source_settings import Table
from compress.data.sources import table as module
from compress.data.sources.table import open_table
from compress.errors import UsageError


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(stream, "png")
    return stream.getvalue()


ROWS = pa.table(
    {
        "a": np.arange(100, dtype=np.float64),
        "img": pa.array([{"bytes": png(i), "path": None} for i in range(100)]),
        "raw": pa.array([png(i) for i in range(100)]),
        "y": np.arange(100) % 3,
        "unused": ["text"] * 100,
    }
)


def write(folder: Path, ending: str, rows: pa.Table = ROWS, name: str = "t") -> Path:
    file = folder / f"{name}.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(rows, file, row_group_size=30)
    elif ending in ("arrow", "feather"):
        with pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=30)
    else:
        options = pa.csv.WriteOptions(delimiter="\t" if ending == "tsv" else ",")
        pa.csv.write_csv(rows.select(["a", "y", "unused"]), file, options)
    return file


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "mapped"])
@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "arrow", "feather"])
def test_every_format_gives_the_same_rows(
    ending: str, memory: int, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", memory)
    file = write(tmp_path, ending)
    for _ in range(2):
        split = open_table(Table(path=(file,), input="a", target="y"), None).splits["train"]
        assert len(split) == 100
        assert [float(example[0]) for example in split.raw([99, 0, 31])] == [99, 0, 31]
        assert split.targets([99, 0, 31]).tolist() == [0, 0, 1]
    converted = list(cache.glob("tables/*"))
    assert len(converted) == (1 if memory == 0 and ending in ("parquet", "csv", "tsv") else 0)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "mapped"])
@pytest.mark.parametrize("column", ["img", "raw"])
def test_images_in_parquet(column: str, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", memory)
    opened = open_table(Table(path=(write(tmp_path, "parquet"),), input=column, target="y"), None)
    images = opened.splits["train"].raw([7, 93])
    assert opened.images
    assert [(image.shape, int(image[0, 0, 0])) for image in images] == [((2, 3, 3), 7), ((2, 3, 3), 93)]


def test_a_mapped_table_keeps_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    metadata = {"huggingface": '{"info": {"features": {"y": {"names": ["p", "q", "r"]}}}}'}
    file = write(tmp_path, "parquet", ROWS.replace_schema_metadata(metadata))
    assert open_table(Table(path=(file,), input="a", target="y"), None).labels == ("p", "q", "r")


def test_file_names_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    lines = ["file,label"]
    for number in range(20):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,{'even' if number % 2 == 0 else 'odd'}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = {"path": "t.csv", "input": "file", "target": "label", "folder": "pictures"}
    settings = read_data_settings({"source": {"table": table}}, tmp_path)
    data = open_data(settings)
    batch = data.batch(data.test, range(len(data.test)))
    assert data.labels == ("even", "odd")
    np.testing.assert_array_equal(batch.inputs[0][:, 0, 0, 0] % 2, batch.targets)
    (tmp_path / "pictures" / "3.png").write_bytes(png(4))
    assert settings.fingerprint() != data.fingerprint


def test_several_files_are_one_table(tmp_path: Path) -> None:
    files = (write(tmp_path, "parquet", ROWS.slice(0, 40), "a"), write(tmp_path, "parquet", ROWS.slice(40), "b"))
    split = open_table(Table(train=files, input="a", target="y"), None).splits["train"]
    assert [float(example[0]) for example in split.raw([39, 40, 99])] == [39, 40, 99]


@pytest.mark.parametrize(
    ("ending", "changes", "message"),
    [
        ("parquet", {"input": "b"}, r"t\.parquet has no column 'b'; it has a \(double\), img \(struct"),
        ("csv", {"input": "b"}, r"t\.csv has no column 'b'; it has a \(int64\), y \(int64\), unused \(string\)"),
        ("csv", {"target": ["y", "unused"]}, "'unused' holds string"),
    ],
)
def test_missing_columns_are_told_with_what_there_is(
    ending: str, changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Table.model_validate({"path": str(write(tmp_path, ending)), "input": "a", "target": "y", **changes})
    for memory in (1 << 30, 0):
        monkeypatch.setattr(module, "IN_MEMORY_BYTES", memory)
        with pytest.raises(UsageError, match=message):
            open_table(settings, None)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for name in ("t.parquet", "t.arrow", "t.xlsx"):
        (tmp_path / name).write_bytes(b"no table at all")
        with pytest.raises(UsageError, match=r"cannot read .*t\.|no table that can be read"):
            open_table(Table(path=(tmp_path / name,), input="a", target="y"), None)
    numbers = write(tmp_path, "parquet", pa.table({"a": [1], "y": [1]}), "a")
    names = write(tmp_path, "parquet", pa.table({"a": ["x"], "y": [1]}), "b")
    with pytest.raises(UsageError, match="do not make one table"):
        open_table(Table(train=(numbers, names), input="a", target="y"), None)


def test_a_changed_image_is_not_read_from_pixels_that_were_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.data.decoded.FEWEST", 1)
    (tmp_path / "0.png").write_bytes(png(5))
    (tmp_path / "t.csv").write_text("file,label\n0.png,1\n0.png,0\n")
    settings = Table(path=(tmp_path / "t.csv",), input="file", target="label", folder=tmp_path)
    for value in (5, 6):
        (tmp_path / "0.png").write_bytes(png(value))
        split = open_table(settings, None).splits["train"]
        assert [int(image[0, 0, 0]) for image in split.raw([0, 1])] == [value, value]
    assert len(list(cache.glob("decoded/*"))) == 2


def test_a_large_table_is_unpacked_anew_for_columns_of_other_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    file = tmp_path / "t.csv"
    file.write_text("q,a\n1,007\n2,010\n")
    for strings, expected in (([], [7, 10]), (["a"], ["007", "010"]), ([], [7, 10])):
        assert module.READERS[".csv"](file, ["q", "a"], strings).column("a").to_pylist() == expected


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "mapped"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_large_file_may_hold_texts_of_several_lines(
    ending: str, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", memory)
    text = "\n".join(["a line, with a comma and \t a tab"] * 30)
    rows = pa.table({"s": [f"{number}\n{text}" for number in range(1500)], "y": list(range(1500))})
    file = tmp_path / f"t.{ending}"
    pa.csv.write_csv(rows, file, pa.csv.WriteOptions(delimiter="\t" if ending == "tsv" else ","))
    assert file.stat().st_size > 1 << 20
    assert module.READERS[f".{ending}"](file, ["s", "y"], []).equals(rows)
