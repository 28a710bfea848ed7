from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from compress.errors import StageError
from compress.exporting import parity
from compress.exporting.emissions.ort_x86 import emit
from compress.exporting.torch_onnx import save
from tests.exporting.canonical_graphs import canonical_graph


def outputs(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_counts_values_that_are_more_than_a_step_off() -> None:
    expected = outputs((0.0, 25.5), (10.0, 12.0))
    found = expected + outputs((0.05, 0.0), (0.0, 0.25))
    result = parity.compare(found, found, expected, integer=True)
    assert result.step == pytest.approx(0.1)
    assert result.within_step == 0.75
    assert result.largest_steps == pytest.approx(2.5, rel=1e-3)
    assert "more than" in result.faults(integer=True)[0]


def test_a_class_that_changes_by_more_than_rounding_is_a_fault() -> None:
    expected = outputs(*[(0.0, 25.5)] * 4)
    changed = expected.copy()
    changed[:2] = (25.5, 0.0)
    result = parity.compare(expected, changed, expected, integer=True)
    assert result.agreement == 0.5
    assert "`ort-x86-avx2`" in result.faults(integer=True)[0]


def test_ties_within_two_steps_are_no_change() -> None:
    assert parity.agreement(outputs((1.0, 1.1)), outputs((1.1, 1.0)), step=0.1) == 1.0
    assert parity.agreement(outputs((1.0, 1.5)), outputs((1.5, 1.0)), step=0.1) == 0.0


def test_values_agree_within_a_step() -> None:
    assert parity.agreement(np.zeros((2, 1, 4)), np.full((2, 1, 4), 0.05), step=0.1) == 1.0


def test_not_a_number_is_a_fault() -> None:
    expected = outputs((0.0, 1.0))
    found = outputs((float("nan"), 1.0))
    assert parity.compare(found, found, expected, integer=False).faults(integer=False)


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    proto, model, x = canonical_graph("residual")
    with torch.no_grad():
        expected = model(x).numpy()
    path = tmp_path / "model.onnx"
    save(emit(proto), path)
    good = parity.check(path, [{"input": x.numpy()}], [expected], integer=True)
    assert good.within_step >= 0.99
    broken = emit(proto)
    for item in broken.graph.initializer:
        if item.name.endswith("relu_1_scale"):
            item.CopyFrom(_times(item, 4.0))
    save(broken, path)
    with pytest.raises(StageError, match="does not give the torch model's answers"):
        parity.check(path, [{"input": x.numpy()}], [expected], integer=True)


def _times(item: TensorProto, factor: float) -> TensorProto:
    return numpy_helper.from_array((numpy_helper.to_array(item) * factor).astype(np.float32), item.name)


def test_a_file_need_not_be_closer_to_torch_than_torch_is_to_itself() -> None:
    result = parity.Parity(100, step=0.1, within_step=0.97, largest_steps=1.5, agreement=1.0, torch_within_step=0.96)
    assert result.faults(integer=True) == []
    assert parity.Parity(100, 0.1, 0.97, 1.5, 1.0, torch_within_step=1.0).faults(integer=True)
