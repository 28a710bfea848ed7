from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from compress.report.page import html_page, together

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Checks that tags are closed in order; collects what a page asks for and says."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.asked: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.asked += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data") and value]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_every_variant_is_well_formed_and_asks_for_nothing(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        reader = read(page)
        assert all(value.startswith(("#", "data:")) for value in reader.asked), name
        assert not reader.tags & {"script", "iframe", "object"}, name
        assert "@import" not in page and "url(http" not in page, name


def test_says_what_matters_first(digits: dict[str, Any]) -> None:
    text = "".join(read(html_page(digits)).said)
    order = ["Deploy student-small-int8-ort-x86", "Budget met.", "Budget", "Files", "Accuracy against latency", "Steps"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert digits["models"][6]["sha256"] in text and "artifacts/student-small-int8-ort-x86.onnx" in text
    assert "NVIDIA L4" in text and "8.33 GB" in text


def test_what_a_user_wrote_stays_text(pages: dict[str, str]) -> None:
    page = pages["awkward text"]
    assert "<script" not in page and "<img" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page


def test_no_section_without_content(pages: dict[str, str]) -> None:
    page = pages["bare minimum"]
    assert "<h2>" not in page and "<table" not in page and "<figure>" not in page


def test_numbers_stay_with_their_units() -> None:
    assert (
        together("12.8x faster in 0.118 ms, 98.61 % of 10 msgs")
        == "12.8x\u00a0faster in 0.118\u00a0ms, 98.61\u00a0% of 10 msgs"
    )
