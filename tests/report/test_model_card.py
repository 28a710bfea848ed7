from __future__ import annotations

from typing import Any

from compress.report.model_card import model_card
from compress.report.reading import read_rows
from tests.report.target_logs import side_by_side

HEADINGS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Ethical considerations", "Caveats and recommendations",
]  # fmt: skip
"""Mitchell et al. 2019, figure 1."""


def lines(report: dict[str, Any], title: str) -> dict[str, str]:
    return dict(next(section.lines for section in model_card(read_rows(report)) if section.title == title))


def test_the_card_has_the_papers_headings(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    assert [section.title for section in model_card(read_rows(digits))] == HEADINGS


def test_what_is_known_is_said(digits: dict[str, Any]) -> None:
    side_by_side(digits)
    details = lines(digits, "Model details")
    assert details["what was done"] == (
        "train: teacher, 12 epochs; distill: student from teacher, 1 epoch; prune (small): keep 0.5 of the macs; "
        "export: fp32, ort-x86"
    )
    assert lines(digits, "Evaluation data")["reported on"].startswith("360 test examples")
    assert lines(digits, "Training data")["augmentation"] == "pad crop"
    analyses = lines(digits, "Quantitative analyses")
    assert "lost against the reference 0.56 points (−0.40 to 1.60 points)" in analyses["on local"]
    assert analyses["on raspberry-pi-5"].startswith("student-small-int8-ort-arm; accuracy 98.03 % (96.01")
    assert "say nothing" in analyses["on arm64-emulated"]
    assert analyses["changed answers"].startswith("4 became wrong, 2 right")
    assert "360 test examples" in lines(digits, "Caveats and recommendations")["few examples"]


def test_what_nobody_told_is_not_made_up(digits: dict[str, Any]) -> None:
    assert lines(digits, "Model details")["licence"] == "not told"
    assert lines(digits, "Intended use") == {"intended uses and users": "not told", "uses out of scope": "not told"}
    assert lines(digits, "Ethical considerations") == {"risks and harms": "not told"}
    titles = [section.title for section in model_card(read_rows(digits))]
    assert "Evaluation data" not in titles and "Training data" not in titles


def test_what_the_pipeline_tells_is_said(digits: dict[str, Any]) -> None:
    digits["card"] = {
        "licence": "Apache-2.0",
        "intended_use": "reading digits, by anybody",
        "out_of_scope": "cheques",
        "made_by": "a-person@example.org",
        "risks": "a 7 may be read as a 1",
    }
    details = lines(digits, "Model details")
    assert details["licence"] == "Apache-2.0" and details["who made it, and whom to ask"] == "a-person@example.org"
    assert lines(digits, "Intended use") == {
        "intended uses and users": "reading digits, by anybody",
        "uses out of scope": "cheques",
    }
    assert lines(digits, "Ethical considerations") == {"risks and harms": "a 7 may be read as a 1"}


def test_no_file_has_no_card(variants: dict[str, dict[str, Any]]) -> None:
    assert model_card(read_rows(variants["bare minimum"])) == ()
