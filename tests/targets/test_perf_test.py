"""Times by `onnxruntime_perf_test`: against a stand-in that makes the calls with the real runtime (android.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import StageError, UsageError
from compress.profiling.profile import profile
from compress.targets.jobs import run_jobs
from compress.targets.perf_test import parsed
from compress.targets.settings import TargetSettings
from compress.targets.target import facts_of
from tests.targets.android import SERIAL, phone


def target(**settings: object) -> TargetSettings:
    binary = "/data/local/tmp/onnxruntime_perf_test"
    quick = {"rounds": 2, "seconds": 0.01, "warmup_seconds": 0.002, "throughput_seconds": 0.01}
    asked = {"name": "phone", "kind": "adb", "serial": SERIAL, "perf_test": binary, "batches": [2], **quick}
    return TargetSettings.model_validate({**asked, **settings})


def product(path: Path, size: int) -> Path:
    """x @ w, with w of `size` x `size`."""
    weight = numpy_helper.from_array(np.ones((size, size), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_times_come_from_the_binary_and_the_phone_is_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = phone(tmp_path, monkeypatch)
    files = {"small": product(tmp_path / "s.onnx", 16), "large": product(tmp_path / "l.onnx", 1500)}
    found = profile(files, target())
    assert [row.batch for row in found["small"]] == [2]
    assert found["large"][0].p50_ms > 3 * found["small"][0].p50_ms
    assert found["small"][0].shape == {"x": [2, 16]}
    assert found["small"][0].throughput_per_s > 0
    assert found["large"][0].load_ms > 0
    assert [path.name for path in root.iterdir()] == ["onnxruntime_perf_test"]


def test_answers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="gives times alone, and no answers"):
        run_jobs(target(), {"m": {"model": str(product(tmp_path / "m.onnx", 4)), "answers": {"output": "y"}}})


def test_a_binary_that_is_not_there_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"there is no /data/local/tmp/none on the device; .* adb -s R58M123ABC push"):
        facts_of(target(perf_test="/data/local/tmp/none"))


def test_a_file_that_does_not_load_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = phone(tmp_path, monkeypatch)
    (root / "onnxruntime_perf_test").write_text("#!/bin/sh\necho 'Load model failed: no such operator'\n")
    request = {"batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.01, "minimum_calls": 5}
    with pytest.raises(StageError, match="timed nothing: Load model failed: no such operator"):
        run_jobs(target(), {"m": {"model": str(product(tmp_path / "m.onnx", 4)), "latency": request}})
    assert [path.name for path in root.iterdir()] == ["onnxruntime_perf_test"]


def test_the_result_file_is_read_as_it_is_written() -> None:
    said = "Disabling intra-op thread spinning\nSession creation time cost: 0.0166 s\nP50 Latency: 0.00021 s\n"
    result = "m,v2.onnx,0.000213,53841920,97,0\nm,v2.onnx,2.1e-05,53841925,97,1\n\nMin Latency is 0.0001sec\n"
    assert parsed(said, result) == {"samples_ns": [213000, 21000], "peak_bytes": 53841925, "load_ms": 16.6}
    with pytest.raises(StageError, match="timed nothing: Segmentation fault"):
        parsed("Segmentation fault\n", "")
