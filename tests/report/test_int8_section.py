from __future__ import annotations

import copy
from typing import Any

import pytest

from compress.report.card import markdown_card
from compress.report.int8_section import rung_sections
from compress.report.operators import family
from compress.report.page import html_page
from compress.report.reading import read_rows
from compress.report.table import Row
from compress.report.time_section import operator_table, time_section

Json = dict[str, Any]


def texts(row: Row) -> list[str]:
    return [cell.text for cell in row.cells]


def test_every_rung_has_its_line_and_the_kept_one_is_marked(variants: dict[str, Json]) -> None:
    (section,) = rung_sections(read_rows(variants["int8 climbed"]))
    assert section.title == "Int8, rung by rung: student-int8"
    assert section.sentences == (
        "3 rungs were climbed, the cheapest first. Kept: the most sensitive operators in float (in float: stem), "
        "which loses nothing of accuracy.",
        "Activations are integers with a zero point (affine), weights of 8 bits.",
        "Kept in float: stem.",
    )
    assert section.table.headings == (
        "Rung", "chosen", "validation accuracy", "loss", "output error", "took", "layers in float",
    )  # fmt: skip
    assert texts(section.table.rows[0]) == [
        "ranges from samples", "mse", "95.00 %", "3.33 points", "0.00533", "0.9 s", "0",
    ]  # fmt: skip
    assert [row.mark for row in section.table.rows] == ["", "", "kept"]
    assert texts(section.table.rows[2])[3] == "−0.10 points"


def test_without_a_ladder_it_says_what_was_trained_and_kept(digits: Json, variants: dict[str, Json]) -> None:
    report = copy.deepcopy(variants["int8 only trained"])
    (section,) = rung_sections(read_rows(report))
    assert (section.title, section.table.rows) == ("Int8: student-int8", ())
    assert section.sentences == (
        "Calibrated: validation accuracy 95.00 %; then trained as it will run: validation accuracy 97.80 %. "
        "Kept: the trained network.",
        "Activations are integers without a zero point (symmetric), weights of 7 bits.",
    )
    log = next(row["quantization"] for row in report["models"] if "quantization" in row)
    log.update(kept="post_training")
    assert "which training did not help" in rung_sections(read_rows(report))[0].sentences[0]
    log.update(trained=None)
    assert rung_sections(read_rows(report))[0].sentences[0] == "Calibrated, not trained: validation accuracy 95.00 %."
    assert rung_sections(read_rows(digits)) == ()


def test_files_of_one_network_share_a_section_and_a_bare_file_has_no_validation_data(variants: dict[str, Json]) -> None:
    report = copy.deepcopy(variants["bare file"])
    int8 = report["models"][2]
    report["models"].append({**int8, "name": "ort-arm", "latency": []})
    (section,) = rung_sections(read_rows(report))
    assert section.title.endswith("ort-x86 and ort-arm")
    assert section.table.headings[2] == "answers changed" and texts(section.table.rows[0])[2] == "0.20 %"
    assert "which changes 0.20 % of the answers" in section.sentences[0]


def test_time_is_told_side_by_side_by_what_operators_do(variants: dict[str, Json]) -> None:
    section = time_section(read_rows(variants["int8 climbed"]))
    assert section is not None
    lines = {row.cells[0].text: row.cells for row in section.table.rows}
    assert list(lines) == ["Conv", "Gemm", "QuantizeLinear", "DequantizeLinear", "ReorderOutput", "others", "all"]
    name, floating, int8, faster = lines["Conv"]
    assert name.note == "Conv, FusedConv, QLinearConv"
    assert (floating.text, floating.note) == ("200", "9 · 83 %")
    assert (int8.text, int8.note) == ("80.0", "9 · 64 %")
    assert faster.text == "2.5x"
    assert [cell.text for cell in lines["QuantizeLinear"]] == ["QuantizeLinear", "–", "30.0", "–"]
    assert [cell.text for cell in lines["all"]] == ["all", "240", "125", "1.92x"]
    assert lines["others"][0].note == "Reshape"


def test_sums_are_whole_whatever_is_shown(variants: dict[str, Json]) -> None:
    report = copy.deepcopy(variants["int8 climbed"])
    for row in report["models"]:
        kinds = row.get("operators", [])
        kinds += [{"operator": f"Own{at}", "count": 1, "microseconds": 5.0} for at in range(20)] if kinds else []
    rows = read_rows(report)
    assert rows.int8 is not None
    floating, int8 = rows.row(rows.int8.over), rows.row(rows.int8.file)
    assert floating is not None and int8 is not None
    table = operator_table(floating, int8)
    assert len(table.rows) == 14
    assert texts(table.rows[-1])[1:3] == ["340", "225"]
    shown = sum(float(row.cells[1].text) for row in table.rows[:-1] if row.cells[1].text != "–")
    assert shown == pytest.approx(340)
    assert "more" in table.rows[-2].cells[0].note


def test_reasons_stand_on_every_face(variants: dict[str, Json]) -> None:
    for text in (markdown_card(variants["int8 slower"]), html_page(variants["int8 slower"])):
        assert "Where the time goes" in text and "3 of 9 layers are narrow" in text
        assert "Int8 does not pay here" in text
    text = markdown_card(variants["int8 climbed"])
    assert (
        "## Int8, rung by rung: student-int8\n" in text
        and "| **the most sensitive operators in float (mixed)** " in text
    )


def test_nothing_is_said_of_int8_that_was_not_weighed(digits: Json) -> None:
    assert time_section(read_rows(digits)) is None
    assert "Where the time goes" not in html_page(digits)


@pytest.mark.parametrize(
    ("operator", "what"),
    [("QLinearConv", "Conv"), ("FusedConv", "Conv"), ("NhwcFusedConv", "Conv"), ("QGemm", "Gemm"),
     ("MatMulIntegerToFloat", "MatMul"), ("QuantizeLinear", "QuantizeLinear"), ("ReorderInput", "ReorderInput"),
     ("QLinearGlobalAveragePool", "GlobalAveragePool"), ("NhwcMaxPool", "MaxPool")],
)  # fmt: skip
def test_operators_in_int8_are_known_by_what_they_are_in_float(operator: str, what: str) -> None:
    assert family(operator) == what
