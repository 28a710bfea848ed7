from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from compress.report.method import method
from compress.report.reading import read_rows
from compress.report.rows import Requirement
from compress.report.table import files_table
from compress.report.verdict import budget_table, requirement_words, verdict


def test_says_what_to_deploy_and_what_it_costs(digits: dict[str, Any]) -> None:
    said = verdict(read_rows(digits))
    assert said.headline == "Deploy student-small-int8-ort-x86"
    assert (said.status, said.badge) == ("met", "Budget met")
    first, reason = said.sentences
    assert first.startswith(
        "Against teacher-fp32, it is 12.8x faster on local and 34.5x smaller, and loses 0.56 points"
    )
    assert "95 % interval of the loss: −1.22 to 2.46 points; it may be chance" in first
    assert reason == "It is the fastest file that meets the budget."
    assert [(number.label, number.value) for number in said.numbers] == [
        ("faster", "12.8x"),
        ("smaller", "34.5x"),
        ("test accuracy", "98.61 %"),
    ]


def test_a_loss_beyond_chance_is_not_called_chance(digits: dict[str, Any]) -> None:
    digits["models"][6]["metrics"] |= {"accuracy": 0.9, "accuracy_ci95": [0.87, 0.93]}
    assert "chance" not in verdict(read_rows(digits)).sentences[0]


def test_a_missed_budget_names_what_was_missed(variants: dict[str, dict[str, Any]]) -> None:
    said = verdict(read_rows(variants["nothing meets the budget"]))
    assert said.headline == "No file meets the budget" and said.status == "missed"
    text = " ".join(said.sentences)
    assert "student-small-int8-ort-x86 is 12.8x faster" in text
    assert "accuracy lost 0.5001 points (at most 0.5000 points)" in text
    assert "peak memory not measured (at most 8.00 MB)" in text


def test_the_other_way_round(variants: dict[str, dict[str, Any]]) -> None:
    assert verdict(read_rows(variants["no budget"])).badge == "No budget was set"
    assert "raises the test MSE by" in verdict(read_rows(variants["regression"])).sentences[0]
    one = verdict(read_rows(variants["one model"]))
    assert one.sentences == ("It is the reference itself.",)
    assert [number.value for number in one.numbers][1:] == ["11.0 MB", "99.17 %"]
    assert verdict(read_rows(variants["bare minimum"])).headline == "Nothing to deploy"


def test_slower_larger_and_better_are_called_so(digits: dict[str, Any]) -> None:
    slow = digits["models"][6]
    slow["latency"] = [{**slow["latency"][0], "p50_ms": 3.1, "p50_ci95_ms": [3.0, 3.2]}]
    slow["size_bytes"] *= 100
    slow["metrics"] |= {"accuracy": 1.0, "accuracy_ci95": [0.99, 1.0]}
    first = verdict(read_rows(digits)).sentences[0]
    assert "2.0x slower" in first and "2.9x larger" in first and "gains 0.83 points" in first


def test_a_missed_limit_never_reads_as_met() -> None:
    assert requirement_words(Requirement("speedup", 4, 3.97, False, None)) == "speedup 3.97x (at least 4x)"
    assert requirement_words(Requirement("speedup", 4, 3.9991, False, None)) == "speedup 3.999x (at least 4x)"
    assert requirement_words(Requirement("latency_p90_ms", 2, 2.0004, False, "pi")) == (
        "latency, p90 on pi 2.0004 ms (at most 2.0000 ms)"
    )


def test_budget_table_has_a_line_a_requirement(digits: dict[str, Any]) -> None:
    rows = [[cell.text for cell in row.cells] for row in budget_table(read_rows(digits)).rows]
    assert rows[0] == ["accuracy lost", "at most 1.00 points", "0.56 points", "met"]
    assert rows[1][1] == "at least 4x"


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("accuracy", "accuracy lost 2.00 points (at most 1.00 points)"),
        ("agreement", "share of answers that change 2.00 % (at most 1.00 %)"),
        ("relative_error", "relative squared error 0.0200 (at most 0.0100)"),
    ],
)
def test_the_loss_of_a_bare_file_is_said_by_what_is_judged(metric: str, words: str) -> None:
    assert requirement_words(Requirement("loss", 0.01, 0.02, False, None), metric) == words


def test_a_bare_file_has_one_agreement_no_test_data_and_keeps_the_letters_of_names(
    variants: dict[str, dict[str, Any]],
) -> None:
    report = copy.deepcopy(variants["bare file"])
    report["deploy_reason"] = "ort-x86 is small"
    rows = read_rows(report)
    said = verdict(rows)
    assert "ort-x86 is small." in said.sentences
    assert said.numbers[2].label == "agreement"
    assert not any(re.search(r"\btest\b", sentence) for sentence in (*said.sentences, *method(rows)))
    assert [heading for heading in files_table(rows).headings if heading == "agreement"] == ["agreement"]
    assert budget_table(rows).rows[0].cells[0].text == "share of answers that change"


def test_int8_that_does_not_pay_is_said_with_its_reasons(variants: dict[str, dict[str, Any]]) -> None:
    sentences = verdict(read_rows(variants["int8 slower"])).sentences
    assert "Int8 does not pay here: student-small-int8-ort-x86 against student-small-fp32." in sentences
    assert sentences[-1] == (
        "Why: 4 operators go from float to int8 or back: 32% of its time; 3 of 9 layers are narrow."
    )
    assert not any("pays" in sentence for sentence in verdict(read_rows(variants["int8 climbed"])).sentences)


def test_a_larger_and_slower_file_is_not_called_a_fraction_smaller(digits: dict[str, Any]) -> None:
    slow = digits["models"][6]
    slow["latency"] = [{**slow["latency"][0], "p50_ms": 3.1, "p50_ci95_ms": [3.0, 3.2]}]
    slow["size_bytes"] *= 100
    numbers = [(number.label, number.value) for number in verdict(read_rows(digits)).numbers]
    assert numbers[:2] == [("slower", "2.0x"), ("larger", "2.9x")]
