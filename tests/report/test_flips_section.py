from __future__ import annotations

from typing import Any

import pytest

from compress.errors import UsageError
from compress.report.card import markdown_card
from compress.report.flips_section import flips_section
from compress.report.page import html_page
from compress.report.reading import read_rows
from tests.report.target_logs import moved


def test_changed_answers_are_counted_and_shown(digits: dict[str, Any]) -> None:
    digits["flips"] = moved()
    section = flips_section(read_rows(digits))
    assert section is not None
    assert "4 that teacher-fp32 has right are wrong in student-small-int8-ort-x86" in section.sentences[0]
    assert "2 that it has wrong are right. 1 went from one wrong class to another." in section.sentences[0]
    assert "Yan et al. 2021" in section.sentences[1] and "1.11 %" in section.sentences[1]
    assert "may be chance (McNemar's exact test: p = 0.69)" in section.sentences[2]
    assert [group.numbers for group in section.groups] == ["41, 52, 63, 74", "10, 20", "30"]
    assert section.groups[0].examples[0].right == "1" and section.groups[0].examples[0].after == "5"
    assert html_page(digits).count('src="data:image/png;base64,') == 7


def test_texts_stand_on_the_page_and_in_the_card_cut(digits: dict[str, Any]) -> None:
    digits["flips"] = moved(texts=True)
    for text in (html_page(digits), markdown_card(digits)):
        assert "Example 41: it was the best of films" in text and "…" in text


def test_nothing_is_said_where_there_are_no_classes_or_the_reference_is_deployed(digits: dict[str, Any]) -> None:
    assert flips_section(read_rows(digits)) is None
    digits["flips"] = moved() | {"file": "teacher-fp32"}
    assert flips_section(read_rows(digits)) is None
    assert "Answers that changed" not in html_page(digits)


def test_a_page_asks_no_network_for_a_picture(digits: dict[str, Any]) -> None:
    digits["flips"] = moved()
    digits["flips"]["shown"][0]["picture"] = "https://example.com/a.png"
    with pytest.raises(UsageError, match="not a data URI"):
        read_rows(digits)
