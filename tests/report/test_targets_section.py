from __future__ import annotations

from typing import Any

from compress.report.reading import read_rows
from compress.report.table import Table, target_table
from compress.report.targets_section import targets_section, told_on
from tests.report.target_logs import DEPLOYED, OTHER, side_by_side


def cells(table: Table, name: str) -> list[tuple[str, str]]:
    row = next(row for row in table.rows if row.cells[0].text == name)
    return [(cell.text, cell.note) for cell in row.cells[1:]]


def test_each_target_has_its_column_and_its_own_file(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    report = read_rows(digits)
    section = targets_section(report)
    assert section is not None and section.table.headings == ("", "local", "raspberry-pi-5", "arm64-emulated")
    assert cells(section.table, "file") == [
        (DEPLOYED, "deploy"),
        (OTHER, "deploy"),
        (DEPLOYED, "not decided here: emulated"),
    ]
    board = report.row(OTHER)
    assert board is not None
    share = board.by_target["raspberry-pi-5"]["accuracy"]
    assert cells(section.table, "accuracy")[1][0] == f"{100 * share:.2f} %"
    assert cells(section.table, "p90 ms")[1][1] == "at most, 99 % sure"
    assert cells(section.table, "p99 ms")[1] == ("not established", "321 calls are too few: it takes 662")
    assert "deploy student-small-int8-ort-arm" in section.sentences[1]


def test_emulated_times_are_shown_and_never_compared(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    report = read_rows(digits)
    section = targets_section(report)
    assert section is not None
    assert cells(section.table, "speedup")[2] == ("not compared", "emulated")
    assert cells(section.table, "p50 ms")[2][0] != "–"
    assert "say nothing" in section.sentences[2]
    assert "speedup" not in target_table(report, "arm64-emulated").headings
    assert "speedup" in target_table(report, "raspberry-pi-5").headings


def test_the_table_of_a_target_marks_what_to_deploy_there(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    report = read_rows(digits)
    for target, expected in (("raspberry-pi-5", [OTHER]), ("arm64-emulated", [])):
        rows = target_table(report, target).rows
        assert [row.cells[0].text for row in rows if row.mark == "deploy"] == expected


def test_one_target_needs_no_table(digits: dict[str, Any]) -> None:
    report = read_rows(digits)
    assert targets_section(report) is None
    assert told_on(report, "local") is report.deployed and told_on(report, "elsewhere") is None
