from __future__ import annotations

from typing import Any

import pytest

from compress.report.columns import measured_columns
from compress.report.reading import read_rows
from compress.report.table import device_table, files_table, target_table
from compress.report.targets_section import targets_section
from tests.report.measured_logs import all_measured, two_rounds
from tests.report.target_logs import DEPLOYED, side_by_side

MEASURED = ("energy mJ", "copies ms", "GPU memory")


def cells(report: dict[str, Any], name: str = DEPLOYED) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for table in (files_table(read_rows(report)), device_table(read_rows(report), "local")):
        for row in table.rows:
            if row.cells[0].text == name:
                told = zip(table.headings, row.cells, strict=True)
                found |= {heading: (cell.text, cell.note) for heading, cell in told}
    return found


def test_what_was_not_measured_has_no_column(digits: dict[str, Any]) -> None:
    assert not set(MEASURED) & cells(digits).keys()
    all_measured(digits)
    assert set(MEASURED) <= cells(digits).keys()


def test_energy_copies_and_memory_of_the_gpu(digits: dict[str, Any]) -> None:
    all_measured(digits)
    found = cells(digits)
    p50 = next(row for row in digits["models"] if row["name"] == DEPLOYED)["latency"][0]["p50_ms"]
    assert float(found["energy mJ"][0]) == pytest.approx(7.5 * p50, rel=0.005)  # three digits
    assert found["energy mJ"][1].startswith("nvml, rapl ")
    assert found["copies ms"] == ("0.0250", "0.0200 to the GPU, 0.00500 back")
    assert found["GPU memory"][0] == "637 kB"
    assert found["examples/s"][1] == "batch 32"


def test_of_too_few_rounds_no_interval_is_shown(digits: dict[str, Any]) -> None:
    assert "to" in cells(digits)["p50 ms"][1]
    two_rounds(digits)
    found = cells(digits)
    assert found["p50 ms"][1] == found["speedup"][1] == "too few rounds"


def test_all_tables_have_the_same_cells(digits: dict[str, Any]) -> None:
    """The column of a target holds what the row of its file does in the target's own table."""
    side_by_side(digits)
    all_measured(digits)
    report = read_rows(digits)
    section = targets_section(report)
    assert section is not None
    known = {column.heading for column in measured_columns(report)}
    tables = [files_table(report), target_table(report, "raspberry-pi-5")]
    for at, table in enumerate(tables, start=1):
        column = {row.cells[0].text: row.cells[at] for row in section.table.rows}
        row = next(row for row in table.rows if row.mark == "deploy")
        shared = [heading for heading in table.headings if heading in known]
        assert len(shared) >= 9 and row.cells[0].text == column["file"].text
        for heading, cell in zip(table.headings, row.cells, strict=True):
            assert heading not in known or column[heading] == cell
