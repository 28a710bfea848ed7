import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import psutil
import pytest
from onnx import parser

import compress
from compress.errors import StageError
from compress.targets import jobs
from compress.targets.jobs import run_jobs
from compress.targets.measuring.machine import available_cores
from compress.targets.settings import TargetSettings
from compress.targets.target import cores_for

MODEL = '<ir_version: 10, opset_import: ["" : 18]> g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }'
PROGRAM = """
import sys
from compress.targets.settings import TargetSettings
from compress.targets.jobs import run_jobs
latency = {"batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 60.0, "minimum_calls": 1}
run_jobs(TargetSettings(), {"m": {"model": sys.argv[1], "latency": latency}})
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def start(tmp_path: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A process that measures for a minute, and the measuring process that it started."""
    onnx.save(parser.parse_model(MODEL), tmp_path / "m.onnx")
    environment = {**os.environ, "PYTHONPATH": str(Path(compress.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "m.onnx")], env=environment, stderr=-3)
    assert wait_for(lambda: bool(psutil.Process(parent.pid).children()))
    child = psutil.Process(parent.pid).children()[0]
    assert wait_for(lambda: child.cpu_times().user > 0.3)  # it is past its imports
    return parent, child


def test_an_interrupt_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    parent, child = start(tmp_path)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=20) == -signal.SIGINT
    assert not child.is_running()
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_the_measuring_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent, child = start(tmp_path)
    parent.kill()
    parent.wait(timeout=20)
    assert wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_threads_are_pinned_to_as_many_cores(tmp_path: Path) -> None:
    assert cores_for(TargetSettings(threads=1)) == [available_cores()[-1]]
    first = available_cores()[0]
    assert cores_for(TargetSettings(cores=(first,))) == [first]
    parent, child = start(tmp_path)
    try:
        assert child.cpu_affinity() == [available_cores()[-1]]
    finally:
        parent.send_signal(signal.SIGINT)
        parent.wait(timeout=20)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed; most often that means too little memory"),
        ("import os; os.abort()", r"crashed \(SIGABRT\)"),
        ("raise ImportError('no onnxruntime here')", "failed with status 1: ImportError: no onnxruntime here"),
    ],
)
def test_a_process_that_ends_early_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (tmp_path / "program.py").write_text(code)
    monkeypatch.setattr(jobs, "program_for", lambda runtime: tmp_path / "program.py")
    with pytest.raises(StageError, match=message):
        run_jobs(TargetSettings(), {})
