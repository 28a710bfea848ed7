from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from compress.exporting.emissions import bf16, fp16
from compress.exporting.parity import run
from compress.exporting.torch_onnx import save
from compress.exporting.widen import widened
from tests.exporting.canonical_graphs import canonical_graph


@pytest.mark.parametrize("name", ["perceptron", "pre-activation"])
@pytest.mark.parametrize(("emit", "digits"), [(bf16.emit, 8), (fp16.emit, 11)])
def test_the_runtime_gives_what_the_reference_evaluator_gives(  # type: ignore[no-untyped-def]
    name: str, emit, digits: int, tmp_path: Path
) -> None:
    proto, _, x = canonical_graph(name)
    narrow = emit(proto)
    wide = widened(narrow)
    assert {item.data_type for item in wide.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    save(wide, tmp_path / "model.onnx")
    (found,) = run(tmp_path / "model.onnx", [{"input": x[:8].numpy()}], optimize=False)
    (expected,) = ReferenceEvaluator(narrow).run(None, {"input": x[:8].numpy()})
    # the evaluator also rounds within a sum: two roundings apart for each layer
    assert np.abs(found - expected).max() <= np.ptp(expected) * 4 * 2.0**-digits
    mantissas, _ = np.frexp(found)
    assert (mantissas * 2.0**digits % 1 == 0).all()  # every answer has as few binary digits
