import getpass
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from compress import environment as module
from compress.environment import environment, gpus, libraries, memory_bytes, parsed_gpus


def test_the_environment_is_plain_data_with_the_facts_that_matter() -> None:
    found = json.loads(json.dumps(environment()))
    assert found["system"].startswith(platform.system())
    assert found["python"] == platform.python_version()
    assert found["processor"]["architecture"] == platform.machine()
    assert found["processor"]["cores"] == os.cpu_count()
    assert 1 <= found["processor"]["usable_cores"] <= found["processor"]["cores"]
    assert set(found["conditions"]) == {"load_1min", "governor", "temperature_c"}


def test_it_tells_no_host_user_or_path() -> None:
    text = json.dumps(environment())
    assert str(Path.home()) not in text
    assert str(Path(sys.prefix)) not in text
    for secret in (socket.gethostname(), getpass.getuser()):
        assert f'"{secret}"' not in text and f"/{secret}" not in text


def test_library_versions_are_those_installed() -> None:
    found = libraries()
    assert {name: importlib.metadata.version(name) for name in found} == found
    assert {"numpy", "torch", "onnx", "onnxruntime"} <= set(found)


def test_memory_is_the_machines_or_a_containers_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_container_limit_bytes", lambda: None)
    assert memory_bytes() == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    monkeypatch.setattr(module, "_container_limit_bytes", lambda: 1024)
    assert memory_bytes() == 1024


@pytest.mark.parametrize(("text", "limit"), [("1073741824\n", 2**30), ("max\n", None), ("9223372036854771712\n", None)])
def test_limits_of_containers_are_read(tmp_path: Path, text: str, limit: int | None) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert module._container_limit_bytes(tmp_path) == limit
    assert module._container_limit_bytes(tmp_path / "none") is None


def test_gpus_are_those_of_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = [{"name": "NVIDIA H200", "memory_mib": 143771, "compute_capability": "9.0", "driver": "580.1"}]
    assert parsed_gpus("NVIDIA H200, 143771, 9.0, 580.1\n\n") == expected
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 9.0, 580.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpus() == expected
    program.write_text("#!/bin/sh\necho 'no driver'; exit 9\n")
    assert gpus() == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == []


def test_asking_imports_nothing_heavy() -> None:
    program = (
        "import sys; from compress.environment import environment; environment();"
        "print(*sorted({'numpy', 'onnxruntime', 'torch', 'onnx', 'sklearn'} & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ)
    assert said.stdout.strip() == ""
