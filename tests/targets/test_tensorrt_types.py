"""The program for TensorRT against the real API of version 11.4, whose stubs a tool in COMPRESS_TOOLS makes.

They are made once, in .cache/tensorrt-api, from the wheel `tensorrt-cu13-bindings` (1 MB), which pip downloads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.targets.programs import FOLDERS
from tests.stand_ins.tensorrt_signatures import FILE, signatures

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".cache" / "tensorrt-api"
TYPED, GENERATOR = CACHE / "typed", CACHE / "generator"
CONFIG = f"""[mypy]
strict = True
python_version = 3.11
explicit_package_bases = True
mypy_path = {REPOSITORY}
[mypy-numpy.*]
follow_imports = skip
[mypy-onnxruntime.*]
ignore_missing_imports = True
"""
WRONG = """import tensorrt as trt


def configure(config: trt.IBuilderConfig, network: trt.INetworkDefinition) -> None:
    config.set_flag(trt.BuilderFlag.FP16)
    config.int8_calibrator = None
    network.get_input(0).get_dimension_name("batch")
    config.set_flag(trt.BuilderFlag.TF32)
"""


@pytest.fixture(scope="module")
def stubs() -> Path:
    """The stubs' file; the test is skipped where they cannot be made."""
    found = TYPED / "tensorrt" / "__init__.pyi"
    if found.is_file():
        return found
    tool = Path(os.environ.get("COMPRESS_TOOLS", "")) / "tensorrt_api.py"
    if "COMPRESS_TOOLS" not in os.environ or not tool.is_file():
        pytest.skip("COMPRESS_TOOLS names no folder with tensorrt_api.py")
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(GENERATOR), "pybind11-stubgen"]
    make = [sys.executable, str(tool), "--cache", str(CACHE), "stubs", str(TYPED)]
    for command in (install, make):
        patience = {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "15"}
        environment = {**patience, **os.environ, "PYTHONPATH": str(GENERATOR)}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"the stubs cannot be made here: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return found


def checked(stubs: Path, folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """mypy's verdict on files that import the real API."""
    (folder / "mypy.ini").write_text(CONFIG)
    flags = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(CACHE / "mypy")]
    command = [sys.executable, "-m", "mypy", *flags, *map(str, files)]
    environment = {**os.environ, "MYPYPATH": str(stubs.parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_call_suits_the_real_signatures(stubs: Path, tmp_path: Path) -> None:
    files = [path for name in FOLDERS["tensorrt"] for path in (REPOSITORY / "compress" / "targets" / name).glob("*.py")]
    found = checked(stubs, tmp_path, *files)
    assert found.stdout.startswith("Success"), found.stdout


def test_a_wrong_member_would_be_found(stubs: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    found = checked(stubs, tmp_path, tmp_path / "wrong.py")
    lines = [line for line in found.stdout.splitlines() if "error" in line and "wrong.py" in line]
    assert [line.partition("wrong.py:")[2].partition(":")[0] for line in lines] == ["5", "6", "7"], found.stdout
    assert '"type[BuilderFlag]" has no attribute "FP16"' in lines[0]
    assert '"IBuilderConfig" has no attribute "int8_calibrator"' in lines[1]


def test_the_stand_in_has_the_real_signatures(stubs: Path) -> None:
    assert json.loads(FILE.read_text()) == signatures(stubs.read_text())
