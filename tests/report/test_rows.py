from __future__ import annotations

from typing import Any

from compress.report.reading import read_rows


def test_the_way_goes_from_the_reference_to_the_deployed_file(digits: dict[str, Any]) -> None:
    names = [model.name for model in read_rows(digits).lineage()]
    assert names == ["teacher-fp32", "student", "student-small", "student-int8", "student-small-int8-ort-x86"]


def test_the_way_from_a_pruned_reference_begins_with_the_reference_once(digits: dict[str, Any]) -> None:
    digits["models"][2]["parent"] = "teacher"
    names = [model.name for model in read_rows(digits).lineage()]
    assert names == ["teacher", "student-small", "student-int8", "student-small-int8-ort-x86"]


def test_parents_in_a_circle_end(digits: dict[str, Any]) -> None:
    digits["models"][1]["parent"] = "student-int8"
    assert len(read_rows(digits).lineage()) == 5


def test_the_reference_file_is_found_by_name_and_stage(digits: dict[str, Any]) -> None:
    del digits["reference_row"]
    reference = read_rows(digits).reference_file
    assert reference is not None and reference.name == "teacher-fp32"


def test_an_unmeasured_model_on_the_way_is_shown_by_the_file_made_behind_its_stage(digits: dict[str, Any]) -> None:
    model = next(row for row in digits["models"] if row["name"] == "student")
    digits["models"].append({**model, "name": "student-fp32", "kind": "onnx", "parent": "student"})
    model["latency"] = []
    names = [row.name for row in read_rows(digits).lineage()]
    assert names == ["teacher-fp32", "student-fp32", "student-small", "student-int8", "student-small-int8-ort-x86"]
