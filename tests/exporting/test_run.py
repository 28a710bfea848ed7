from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from compress.errors import StageError
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.run import finish
from compress.exporting.stage import Export
from compress.stage import Context
from tests.exporting.canonical_graphs import canonical_graph
from tests.quantization.networks import deployment


def emitted(emission: str, out: Path, **settings: object) -> dict[str, object]:
    proto, model, x = canonical_graph("residual", symmetric=True, weight_bits=7)
    described = deployment(x, model(x))
    made = EMISSIONS[emission](proto)
    return finish(
        made, model, emission, out,
        deployment=described, data=None, settings=Export(emit=(emission,), **settings), context=Context(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("emission", "precision"),
    [("fp32", "fp32"), ("fp16", "fp16"), ("bf16", "bf16"), ("ort-x86-avx2", "int8"), ("tensorrt", "int8")],
)
def test_says_precision_and_findings_and_counts_int8_where_it_means_something(
    emission: str, precision: str, tmp_path: Path
) -> None:
    metrics = emitted(emission, tmp_path)
    assert (metrics["precision"], metrics["profile"]) == (precision, emission)
    assert (metrics["int8_share"] is None) == (not emission.startswith("ort-"))
    assert metrics["lint"] == []
    json.dumps(metrics)


def test_a_file_that_breaks_a_rule_is_refused(tmp_path: Path) -> None:
    proto, model, x = canonical_graph("residual", symmetric=True, weight_bits=7)
    broken = EMISSIONS["tensorrt"](proto)
    (node,) = [node for node in broken.graph.node if node.name == "conv1"]
    (kernel,) = [item for item in node.attribute if item.name == "kernel_shape"]
    node.attribute.remove(kernel)
    with pytest.raises(StageError, match=r"the file is not what tensorrt needs: conv1 has no attribute kernel_shape"):
        finish(
            broken, model, "tensorrt", tmp_path, deployment=deployment(x, model(x)), data=None,
            settings=Export(emit=("tensorrt",)), context=Context(),
        )  # fmt: skip
    assert not (tmp_path / "model.onnx").exists()


def test_mobile_files_lie_beside_the_model(tmp_path: Path) -> None:
    emitted("ort-x86-avx2", tmp_path, mobile=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle.json", "model.onnx", "model.ort", "required_operators.config"
    ]  # fmt: skip


def test_the_batch_is_fixed_in_the_file(tmp_path: Path) -> None:
    emitted("tensorrt", tmp_path, batch=3)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in (*graph.input, *graph.output)] == [3, 3]
