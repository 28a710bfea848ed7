from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.errors import UsageError
from compress.report import card
from compress.report.write import json_text, read_report, write_report


def test_what_is_written_is_read(digits: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "digits"
    write_report(digits, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert read_report(folder) == digits
    assert list(read_report(folder)) == list(digits)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(read_report(folder), folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_awkward_reports_are_written(variants: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for name in ("bare minimum", "awkward text", "nothing meets the budget"):
        write_report(variants[name], tmp_path / name)
        assert read_report(tmp_path / name) == variants[name]


def test_nothing_is_written_if_one_face_fails(
    digits: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(digits, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(report: Any) -> str:
        raise RuntimeError("no")

    monkeypatch.setattr(card, "markdown_card", fail)
    with pytest.raises(RuntimeError):
        write_report({**digits, "name": "other"}, tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_numbers_that_json_lacks_are_null(digits: dict[str, Any], tmp_path: Path) -> None:
    digits["models"][4]["metrics"]["accuracy"] = float("nan")
    digits["budget"][1]["value"] = np.float64("inf")
    digits["models"][4]["size_bytes"] = np.int64(12)
    write_report(digits, tmp_path)
    found = read_report(tmp_path)
    assert found["models"][4]["metrics"]["accuracy"] is None
    assert found["budget"][1]["value"] is None
    assert found["models"][4]["size_bytes"] == 12


def test_json_keeps_lists_of_numbers_on_one_line() -> None:
    value = {"a": [1, 2.5, None], "b": [[1, 2], [3]], "c": {"d": []}, "e": {}, "f": "é"}
    text = json_text(value)
    assert json.loads(text) == value
    assert '"a": [1, 2.5, null]' in text and "é" in text


def test_a_folder_without_a_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no report\.json here; name the folder of a finished run"):
        read_report(tmp_path)
    with pytest.raises(UsageError, match=r"no report\.json here"):
        read_report(tmp_path / "missing")
    (tmp_path / "report.json").write_text("{broken")
    with pytest.raises(UsageError, match="cannot be read"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(UsageError, match="does not hold a report"):
        read_report(tmp_path)
