from __future__ import annotations

from typing import Any

from compress.report.card import markdown_card
from compress.report.page import html_page
from compress.report.reading import read_rows
from compress.report.throughput_section import throughput_sections
from tests.report.measured_logs import SPEEDS, all_measured
from tests.report.target_logs import DEPLOYED, side_by_side


def test_each_file_has_its_best_batch_size(digits: dict[str, Any]) -> None:
    all_measured(digits)
    (section,) = throughput_sections(read_rows(digits))
    assert section.table.headings == ("File", "batch 1", "batch 8", "batch 32", "batch 64", "best batch")
    row = next(row for row in section.table.rows if row.cells[0].text == DEPLOYED)
    p50 = next(one for one in digits["models"] if one["name"] == DEPLOYED)["latency"][0]["p50_ms"]
    written = [float(cell.text.replace(",", "")) for cell in row.cells[1:5]]
    for found, speed in zip(written, SPEEDS.values(), strict=True):
        assert abs(found / (1000 / p50 * speed) - 1) < 0.005  # three digits
    assert row.cells[-1].text == "32" and row.mark == "deploy"
    assert [cell.note.startswith("best") for cell in row.cells[1:5]] == [False, False, True, False]
    assert all("mJ" in cell.note for cell in row.cells[1:5]) and "millijoules" in section.caption


def test_a_file_of_one_batch_size_leaves_the_others_open(digits: dict[str, Any]) -> None:
    all_measured(digits)
    (section,) = throughput_sections(read_rows(digits))
    arm = next(row for row in section.table.rows if row.cells[0].text.endswith("ort-arm"))
    assert [cell.text for cell in arm.cells[1:3]] == ["–", "–"] and arm.cells[-1].text == "32"


def test_it_is_told_only_where_there_are_several_sizes(digits: dict[str, Any]) -> None:
    assert throughput_sections(read_rows(digits)) == ()
    assert "Throughput" not in html_page(digits) and "Throughput" not in markdown_card(digits)
    all_measured(digits)
    assert "<h2>Throughput</h2>" in html_page(digits) and "## Throughput" in markdown_card(digits)


def test_an_emulators_throughput_says_nothing(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    all_measured(digits)
    assert [section.target for section in throughput_sections(read_rows(digits))] == ["local", "raspberry-pi-5"]
