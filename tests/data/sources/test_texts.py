"""Texts from tables, from the hub's data sets and from functions of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.data.source_settings import Table
from compress.data.sources import table as module
from compress.data.sources.table import open_table
from compress.errors import UsageError
from tests.data.text_helpers import opened, table

ROWS: list[dict[str, Any]] = [
    {"s": f"the cat\t{number}\n“{number}”", "y": number % 3, "unused": [number]} for number in range(40)
]


@pytest.mark.parametrize("size", [1 << 26, 200], ids=["at once", "piece by piece"])
@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "mapped"])
def test_json_lines_give_the_rows_that_were_written(
    memory: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", memory)
    monkeypatch.setattr(module, "JSON_BYTES", size)
    table(tmp_path, ROWS)
    for _ in range(2):
        data = opened(tmp_path, {"table": {"train": "t.jsonl", "input": "s", "target": "y"}}, split={"seed": 1})
        texts = [row for split in (data.train, data.validation, data.test) for row in split.raw(range(len(split)))]
        assert sorted(texts) == sorted(row["s"] for row in ROWS)
    for number, text in enumerate(data.train.raw(range(len(data.train)))):
        assert data.train.targets([number])[0] == int(text.split("“")[1][:-1]) % 3


def test_json_lines_hold_numbers_too(tmp_path: Path) -> None:
    table(tmp_path, [{"x": [number, 0.5], "y": number % 2} for number in range(10)], "t.json")
    split = open_table(Table(path=(tmp_path / "t.json",), input="x", target="y"), None).splits["train"]
    assert split.raw([3])[0].tolist() == [3.0, 0.5]
    for content, message in (("", "has no rows: one JSON object a line"), ("[1, 2]\n", "cannot read .*t.json")):
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(UsageError, match=message):
            open_table(Table(path=(tmp_path / "t.json",), input="x", target="y"), None)
    table(tmp_path, [{"x": 1.0}], "t.json")
    with pytest.raises(UsageError, match=r"has no column 'y'; it has x \(double\)"):
        open_table(Table(path=(tmp_path / "t.json",), input="x", target="y"), None)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "mapped"])
def test_target_texts_keep_the_words_that_stand_in_the_file(
    ending: str, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", memory)
    rows = {"q": [f"what is {number}" for number in range(20)], "a": [f"{number:03d}" for number in range(20)]}
    file = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(pa.table(rows), file)
    elif ending == "jsonl":
        table(tmp_path, pa.table(rows).to_pylist())
    else:
        mark = "\t" if ending == "tsv" else ","
        lines = [mark.join(("q", "a")), *(mark.join(row) for row in zip(rows["q"], rows["a"], strict=True))]
        file.write_text("\n".join(lines))
    data = opened(tmp_path, {"table": {"path": file.name, "input": "q", "target": "a"}}, {"targets": "text"})
    for prompt, answer in zip(data.test.raw([0, 1]), data.test.target_texts([0, 1]), strict=True):  # type: ignore[attr-defined]
        assert answer == f"{int(prompt.split()[-1]):03d}"
    assert data.labels is None


def test_numbers_in_a_target_of_texts_become_their_words(tmp_path: Path) -> None:
    rows = table(tmp_path, [{"q": "one plus one", "a": 2} for _ in range(10)])
    data = opened(tmp_path, {"table": {"path": rows, "input": "q", "target": "a"}}, {"targets": "text"})
    assert data.train.target_texts([0]) == ["2"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ({"input": "y", "target": "y"}, {}, "the column 'y' must hold texts; it holds int64"),
        ({"input": "t", "target": "y"}, {}, r"has no column 't'; it has s \(string\)"),
        ({"input": "gap", "target": "y"}, {}, "1 texts of the column 'gap' of the train split are missing"),
        ({"input": ["s", "s", "s"], "target": "y"}, {}, "one text or a pair of texts; 3 columns are named"),
        ({"input": "s"}, {"targets": "text"}, "name one column of texts as `target`"),
        ({"input": "s", "target": "y"}, {"targets": "text", "rationale": "why"}, "has no column 'why'"),
        ({"input": "s", "target": "list"}, {"targets": "text"}, "the column 'list' must hold texts; it holds list"),
    ],
)
def test_columns_that_hold_no_texts_are_refused(source: Any, text: Any, message: str, tmp_path: Path) -> None:
    rows = [{"s": "a", "y": number, "list": [1], "gap": "b" if number else None} for number in range(5)]
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, {"table": {"path": table(tmp_path, rows), **source}}, text)


@pytest.mark.parametrize("text", ["the cat sat", "x" * 5000, ""])
def test_strings_that_name_no_file_ask_for_text_settings(text: str, tmp_path: Path) -> None:
    rows = [{"s": text, "y": number} for number in range(5)]
    for more in ({}, {"folder": "."}):
        source = {"table": {"path": table(tmp_path, rows), "input": "s", "target": "y", **more}}
        with pytest.raises(UsageError, match=r"if they are texts, add `text: \{tokenizer: \.\.\.\}`"):
            open_data(read_data_settings({"source": source}, tmp_path))


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    moods = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": moods, "several": datasets.Sequence(moods)}
    )

    def made(count: int) -> Any:
        labels = [number % 2 for number in range(count)]
        texts = [("the cat", "a dog")[label] for label in labels]
        several = [[0, 1] if label else [] for label in labels]
        return datasets.Dataset.from_dict({"text": texts, "label": labels, "several": several}, features=features)

    saved = datasets.DatasetDict({"train": made(30), "test": made(10), "unsupervised": made(6)})
    saved.save_to_disk(tmp_path / "saved")
    splits = {"train": "train", "test": "test", "unlabelled": "unsupervised"}
    hub = {"path": "saved", "input": "text", "target": "label", "splits": splits}
    data = opened(tmp_path, {"hub": hub})
    assert (data.labels, len(data.test)) == (("bad", "good"), 10)
    for text, target in zip(data.test.raw(range(10)), data.test.targets(range(10)), strict=True):
        assert text == ("the cat", "a dog")[target]
    assert data.unlabelled is not None
    assert data.unlabelled.targets([0, 5]).tolist() == [-1, -1]
    data = opened(tmp_path, {"hub": {**hub, "target": "several"}})
    assert data.labels == ("bad", "good")
    assert {tuple(row) for row in data.test.targets(range(10)).tolist()} == {(1.0, 1.0), (0.0, 0.0)}
    plain = {"source": {"hub": hub}}
    with pytest.raises(UsageError, match="if they are texts, add"):
        open_data(read_data_settings(plain, tmp_path))


FUNCTION = """
def arrays():
    return {"train": (["the cat", "a dog"] * 10, [0, 1] * 10), "labels": ["cat", "dog"]}

def items():
    return {"train": [(("the cat", "a dog"), 0.5), (("a", "b"), 1.5)] * 10}

def answers():
    return {"train": (["the cat"] * 10, ["sat"] * 10)}

def explained():
    return {"train": (["the cat"] * 10, ["sat"] * 10, ["a mat"] * 10), "test": [("a dog", "ran", "the cat")] * 3}

def numbers():
    return {"train": ([1, 2, 3] * 4, [0, 1, 0] * 4)}

def short():
    return {"train": (["the cat"], [0, 1])}
"""


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FUNCTION)

    def made(name: str, **text: Any) -> Any:
        return opened(tmp_path, {"python": {"function": f"own.py:{name}"}}, text)

    data = made("arrays")
    assert data.labels == ("cat", "dog")
    for number, text in enumerate(data.train.raw(range(len(data.train)))):
        assert ("cat", "dog")[data.train.targets([number])[0]] in text
    data = made("items")
    assert {len(pair) for pair in data.train.raw([0, 1, 2])} == {2}
    assert data.train.targets([0]).shape == (1, 1)
    assert made("answers", targets="text").train.target_texts([0]) == ["sat"]
    data = made("explained", targets="text", rationale="why")
    for split, said in ((data.train, ("sat", "a mat")), (data.test, ("ran", "the cat"))):
        assert (split.target_texts([0]), split.rationales([0])) == ([said[0]], [said[1]])
    with pytest.raises(UsageError, match=r"item 0 must be \(input, target, rationale\), got list"):
        made("answers", targets="text", rationale="why")
    with pytest.raises(UsageError, match="'input' must hold texts; it holds int64"):
        made("numbers")
    with pytest.raises(UsageError, match="must give texts, or pairs of texts, and as many targets"):
        made("short")
