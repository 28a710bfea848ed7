from __future__ import annotations

import copy
from typing import Any

import pytest

from compress.errors import UsageError
from compress.report.reading import read_rows


def test_reads_rungs_operators_and_what_int8_is_worth(variants: dict[str, dict[str, Any]]) -> None:
    report = read_rows(variants["int8 climbed"])
    found = report.models[3].quantized
    assert found is not None and (found.kept, found.grid, found.weight_bits) == ("mixed", "affine", 8)
    assert [rung.name for rung in found.rungs] == ["static", "trained", "mixed"]
    assert found.rungs[2].in_float == ("stem",) and found.rungs[0].metrics == {"accuracy": 0.95}
    assert report.int8 is not None and report.int8.speedup_ci95 == pytest.approx((2.2, 2.24))
    operators = report.models[5].operators
    assert (operators[0].operator, operators[0].count, operators[0].microseconds) == ("Conv", 7, 140.0)
    assert report.models[6].not_int8[0].operator == "Gemm"


def test_what_is_not_there_is_not_made_up(digits: dict[str, Any]) -> None:
    report = read_rows(digits)
    assert report.int8 is None and report.split == "test"
    assert all(model.quantized is None and model.operators == () for model in report.models)


def test_an_interval_that_is_not_known(variants: dict[str, dict[str, Any]]) -> None:
    report = copy.deepcopy(variants["int8 slower"])
    report["int8"]["speedup_ci95"] = None
    found = read_rows(report).int8
    assert found is not None and found.speedup_ci95 is None


def test_a_rung_without_its_loss_was_not_written_by_us(variants: dict[str, dict[str, Any]]) -> None:
    report = copy.deepcopy(variants["int8 climbed"])
    del report["models"][3]["quantization"]["rungs"][0]["loss"]
    with pytest.raises(UsageError, match="lacks the key 'loss'"):
        read_rows(report)
