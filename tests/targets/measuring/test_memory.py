import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from compress.targets.measuring import memory
from compress.targets.measuring.memory import forget_peak_memory, peak_memory_bytes
from tests.targets.measuring.running import command, latency, run, save

GNU_TIME = "/usr/bin/time"


def test_peak_memory_is_what_the_operating_system_says_of_the_process(tmp_path: Path) -> None:
    megabytes = 64
    weight = np.random.default_rng(0).standard_normal((4, megabytes * 2**16)).astype(np.float32)
    model = save(tmp_path / "m.onnx", "g (float[batch,4] x) => (float[batch,n] y) { y = MatMul(x, w) }", w=weight)
    (result,), told = run(tmp_path, {"model": str(model), "latency": latency(batches=[2])})
    peak = result["runs"][0]["peak_bytes"]
    assert peak == pytest.approx(told, rel=0.05)
    assert peak - result["base_bytes"] > megabytes * 2**20


def test_memory_falls_back_on_getrusage_where_proc_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = peak_memory_bytes()
    monkeypatch.setattr(memory, "read", lambda path: "")
    assert peak_memory_bytes() == pytest.approx(exact, rel=0.05)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a process forget its peak")
def test_what_was_taken_for_a_moment_before_a_model_is_no_part_of_its_base() -> None:
    array = np.ones(16 << 20)  # 128 MiB
    high = peak_memory_bytes()
    del array
    forget_peak_memory()
    assert high - peak_memory_bytes() > 100 << 20


@pytest.mark.skipif(not shutil.which(GNU_TIME), reason=f"GNU time is not installed as {GNU_TIME}")
def test_peak_memory_is_what_gnu_time_says_of_the_program(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    latency = {"batches": [1, 2_000_000], "warmup_seconds": 0.0, "seconds": 0.0, "minimum_calls": 2}
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(tmp_path / "m.onnx")}]}
    request["jobs"][0]["latency"] = latency  # type: ignore[index]
    (tmp_path / "request.json").write_text(json.dumps(request))
    said = subprocess.run([GNU_TIME, "-v", *command(tmp_path)], capture_output=True, text=True, check=True).stderr
    told = re.search(r"Maximum resident set size \(kbytes\): (\d+)", said)
    small, large = json.loads((tmp_path / "result.json").read_text())["jobs"][0]["runs"]
    assert told and large["peak_bytes"] == pytest.approx(int(told[1]) * 1024, rel=0.05)
    assert large["peak_bytes"] - small["peak_bytes"] > 2 * 4 * 4 * 2_000_000 * 0.95  # what goes in and what comes out
