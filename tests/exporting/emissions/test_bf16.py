from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from compress.exporting.canonical import split
from compress.exporting.emissions.bf16 import emit
from tests.exporting.canonical_graphs import canonical_graph


@pytest.mark.parametrize("name", ["perceptron", "pre-activation"])
def test_onnx_own_evaluator_gives_the_float_answers_within_some_roundings(name: str) -> None:
    proto, _, x = canonical_graph(name)
    emitted = emit(proto)
    onnx.checker.check_model(emitted, full_check=True)
    found: Any
    exact: Any
    (found,) = ReferenceEvaluator(emitted).run(None, {"input": x[:8].numpy()})
    (exact,) = ReferenceEvaluator(split(proto)[0]).run(None, {"input": x[:8].numpy()})
    assert found.dtype == np.float32
    assert 0 < np.abs(found - exact).max() <= np.ptp(exact) * 8 * 2.0**-8
