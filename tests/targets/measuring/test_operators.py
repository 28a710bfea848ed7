from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from compress.errors import StageError
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings
from tests.targets.measuring.running import HEADER, save


def test_operators_are_timed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    body = "h = MatMul(x, w) s = Sin(h) y = MatMul(s, v)"
    model = parser.parse_model(HEADER + f"g (float[batch,256] x) => (float[batch,256] y) {{ {body} }}")
    model.graph.initializer.extend(numpy_helper.from_array(weight, name) for name in ("w", "v"))
    for node, name in zip(model.graph.node, ("first", "middle", "last"), strict=True):
        node.name = name
    onnx.save(model, tmp_path / "m.onnx")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    request = {"batch": 16, "seconds": 0.05, "minimum_calls": 5, "axes": {}}
    done, _ = run_jobs(TargetSettings(), {"m": {"model": str(tmp_path / "m.onnx"), "operators": request}})
    found = {item["name"]: item for item in done["m"]["operators"]}
    assert {name: item["operator"] for name, item in found.items()} == {
        "first": "MatMul", "middle": "Sin", "last": "MatMul",
    }  # fmt: skip
    assert all(0 < item["microseconds"] < 1e6 for item in found.values())
    assert done["m"]["calls"] >= 5
    assert list(scratch.iterdir()) == []  # where the runtime's own profile was
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "scratch"]


def test_operators_of_a_model_that_fails_are_an_error(tmp_path: Path) -> None:
    model = save(
        tmp_path / "m.onnx", "g (float[batch,4] x, float[batch,rest] z) => (float[batch,4] y) { y = Add(x, z) }"
    )
    request = {"batch": 1, "seconds": 0.0, "minimum_calls": 1, "axes": {"rest": 7}}
    with pytest.raises(StageError, match="m: it fails when run on"):
        run_jobs(TargetSettings(), {"m": {"model": str(model), "operators": request}})
