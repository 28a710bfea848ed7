"""Files before and after where int8 was not weighed; `test_int8_section.py` has those where it was."""

from __future__ import annotations

import re
from typing import Any

from compress.report.card import markdown_card
from compress.report.operators_picture import operators_picture
from compress.report.page import html_page
from compress.report.reading import read_rows
from compress.report.time_section import other_time_sections, time_section
from tests.report.target_logs import DEPLOYED, OTHER, side_by_side


def test_the_reference_stands_beside_the_file_to_deploy(digits: dict[str, Any]) -> None:
    assert time_section(read_rows(digits)) is None
    side_by_side(digits)
    section = time_section(read_rows(digits))
    assert section is not None and section.words == ("before", "after")
    assert section.said == f"{DEPLOYED} beside teacher-fp32."
    assert section.table.headings == ("Operator", "before, µs", "after, µs", "speedup")
    texts = [[cell.text for cell in row.cells] for row in section.table.rows]
    assert texts == [["Conv", "1380", "90.0", "15.3x"], ["Gemm", "40.0", "–", "–"], ["all", "1420", "90.0", "15.8x"]]


def test_the_picture_has_two_bars_for_each_of_the_dearest(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    section = time_section(read_rows(digits))
    assert section is not None and section.before is not None and section.after is not None
    drawn = operators_picture(section.before, section.after, section.words)
    assert drawn is not None
    words = re.findall(r"<text[^>]*>([^<]*)</text>", drawn[0])
    assert {"Conv", "Gemm", "1380", "90.0", "none", "before", "after"} <= set(words)
    assert "1420 µs in teacher-fp32, 90.0 µs in student-small-int8-ort-x86 (15.8x faster)" in drawn[1]


def test_every_target_that_told_them_has_its_own_times(digits: dict[str, Any]) -> None:
    """The file is the one to deploy there; an emulator's times say nothing."""
    assert other_time_sections(read_rows(digits)) == ()
    side_by_side(digits)
    (section,) = other_time_sections(read_rows(digits))
    assert section.said == f"On raspberry-pi-5: {OTHER} beside teacher-fp32."
    assert [[cell.text for cell in row.cells] for row in section.table.rows] == [
        ["Conv", "4500", "300", "15.0x"],
        ["Gemm", "100", "50.0", "2.0x"],
        ["all", "4600", "350", "13.1x"],
    ]
    assert "counts them on raspberry-pi-5" in section.caption
    assert section.said in markdown_card(digits) and markdown_card(digits).count("## Where the time goes") == 1
    assert section.said in html_page(digits) and html_page(digits).count("Time by operator, before and after") == 2
