from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from compress.report.plots import Picture, stage_pictures, target_pictures
from compress.report.reading import read_rows


def all_pictures(report: dict[str, Any]) -> tuple[Picture, ...]:
    rows = read_rows(report)
    return (*stage_pictures(rows), *(picture for target in rows.targets for picture in target_pictures(rows, target)))


@pytest.fixture(scope="module")
def drawn(variants: dict[str, dict[str, Any]]) -> dict[str, tuple[Picture, ...]]:
    return {name: all_pictures(report) for name, report in variants.items()}


def texts(picture: Picture) -> str:
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg))


def test_four_pictures_that_are_well_formed(digits: dict[str, Any]) -> None:
    pictures = all_pictures(digits)
    assert [picture.title for picture in pictures] == [
        "Accuracy by stage",
        "Latency by stage",
        "Accuracy against latency",
        "Latency distributions",
    ]
    for picture in pictures:
        root = ElementTree.fromstring(picture.svg)
        assert root.attrib["role"] == "img" and root.attrib["aria-label"] == picture.caption


def test_colours_and_fonts_are_the_pages(drawn: dict[str, tuple[Picture, ...]]) -> None:
    for name, pictures in drawn.items():
        for picture in pictures:
            assert re.findall(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|white|black", picture.svg) == [], (
                name,
                picture.title,
            )
            assert "font-family" not in picture.svg
            assert "http" not in picture.svg


def test_no_id_is_there_twice_and_every_reference_is_met(drawn: dict[str, tuple[Picture, ...]]) -> None:
    for name, pictures in drawn.items():
        together = "".join(picture.svg for picture in pictures)
        found = re.findall(r'\bid="([^"]+)"', together)
        assert len(found) == len(set(found)), name
        used = set(re.findall(r"url\(#([^)]+)\)", together)) | set(re.findall(r'href="#([^"]+)"', together))
        assert used <= set(found), name


def test_the_same_bytes_in_another_process_whatever_its_settings(digits: dict[str, Any], tmp_path: Path) -> None:
    import json

    (tmp_path / "report.json").write_text(json.dumps(digits))
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\nlines.linewidth: 9\n")
    program = (
        "import json, sys; from compress.report.page import html_page;"
        "sys.stdout.buffer.write(html_page(json.load(open('report.json'))).encode())"
    )
    from compress.report.page import html_page

    other = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True).stdout
    assert other.decode() == html_page(digits)


def test_stages_tell_values_and_changes(digits: dict[str, Any]) -> None:
    accuracy, latency = stage_pictures(read_rows(digits))
    assert "98.62 %" in texts(accuracy) and "−0.55" in texts(accuracy)
    assert "on test data" in accuracy.caption and "intervals" in accuracy.caption
    assert "not measured" in texts(latency) and "2.1x faster" in texts(latency)


def test_stages_never_mix_validation_and_test(digits: dict[str, Any]) -> None:
    for row in digits["models"]:
        if row["kind"] == "torch":
            row["metrics"] = {}
    accuracy, _ = stage_pictures(read_rows(digits))
    assert "on validation data" in accuracy.caption and "validation accuracy, %" in texts(accuracy)


def test_the_budget_is_drawn_where_there_is_one(variants: dict[str, dict[str, Any]]) -> None:
    budget, none = (target_pictures(read_rows(variants[name]), "local")[0] for name in ("as usual", "no budget"))
    assert "meets the budget" in budget.caption and "accent-soft" in budget.svg
    assert "meets the budget" not in none.caption and "accent-soft" not in none.svg


def test_many_files_are_drawn_without_crowding(variants: dict[str, dict[str, Any]]) -> None:
    tradeoff, distributions = target_pictures(read_rows(variants["thirty models"]), "local")
    assert "Shown are 12 of 30 files" in distributions.caption
    assert texts(tradeoff).count("int8-ort-x86") < 12 and "student-small-int8-ort-x86" in texts(tradeoff)


def test_percentiles_alone_make_a_picture(digits: dict[str, Any]) -> None:
    for row in digits["models"]:
        for entry in row["latency"]:
            entry["rounds_ms"] = []
    _, distributions = target_pictures(read_rows(digits), "local")
    assert "rounds" not in distributions.caption and "p99 1.90 ms" in texts(distributions)


def test_nothing_measured_gives_no_picture(digits: dict[str, Any]) -> None:
    for row in digits["models"]:
        row["latency"] = []
    rows = read_rows(digits)
    assert [picture.title for picture in stage_pictures(rows)] == ["Accuracy by stage"]
