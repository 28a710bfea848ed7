from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from compress.errors import StageError, UsageError
from compress.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from compress.runtimes.runtime import Runtime

MODEL = """<ir_version: 10, opset_import: ["" : 18]>
g (float[batch,4] x, float[batch,k] z) => (float[batch,4] sum, float[batch,k] same) {
    sum = Add(x, z)
    same = Relu(z)
}"""


def test_arrays_in_arrays_out_by_name(tmp_path: Path) -> None:
    onnx.save(parser.parse_model(MODEL), tmp_path / "m.onnx")
    runtime: Runtime = OnnxRuntimeCpu(tmp_path / "m.onnx", threads=2)
    assert (runtime.inputs, runtime.outputs) == (("x", "z"), ("sum", "same"))
    x, z = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    found = runtime({"z": z, "x": x})
    np.testing.assert_array_equal(found["sum"], x + z)
    np.testing.assert_array_equal(found["same"], np.maximum(z, 0))


def test_failures_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(UsageError, match="cannot load it"):
        OnnxRuntimeCpu(tmp_path / "junk.onnx")
    with pytest.raises(UsageError, match="no such file"):
        OnnxRuntimeCpu(tmp_path / "gone.onnx")
    onnx.save(parser.parse_model(MODEL), tmp_path / "m.onnx")
    with pytest.raises(StageError, match=r"fails when run on x \[2, 4\], z \[2, 3\]"):
        OnnxRuntimeCpu(tmp_path / "m.onnx")({"x": np.ones((2, 4), np.float32), "z": np.ones((2, 3), np.float32)})
