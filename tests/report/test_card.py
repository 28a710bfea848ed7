from __future__ import annotations

from typing import Any

from compress.report.card import markdown_card


def test_says_what_the_page_says(digits: dict[str, Any]) -> None:
    text = markdown_card(digits)
    assert text.startswith("# digits: compression report\n\n**Deploy student-small-int8-ort-x86.** Budget met.")
    for words in ("## Budget", "## Files", "## The way there", "## Steps", "## How it was measured", "## Environment"):
        assert f"\n{words}\n" in text
    assert "| **student-small-int8-ort-x86** |" in text and "98.61 % (96.79 to 99.41)" in text
    assert "in 12 rounds, each a fresh process" in text


def test_every_variant_can_be_written(variants: dict[str, dict[str, Any]]) -> None:
    for name, report in variants.items():
        text = markdown_card(report)
        assert "None" not in text and "nan" not in text.split(), name
    assert "## On jetson-orin" in markdown_card(variants["several targets"])
