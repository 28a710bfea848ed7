"""Makes the stand-ins for TensorRT and for NVIDIA's driver what programs find that this process starts."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = FOLDER / "modules"


@functools.cache
def driver_folder() -> Path:
    """A folder with the stand-in for the driver, compiled; the test is skipped where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or os.name != "posix":
        pytest.skip("the stand-in for NVIDIA's driver needs a C compiler")
    folder = Path(tempfile.mkdtemp(prefix="compress-stand-in-"))
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(folder / "libcuda.so.1"), str(FOLDER / "libcuda.c")]
    subprocess.run(command, check=True)
    return folder


def use(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """For one test; what is kept for later builds goes into `cache`."""
    monkeypatch.setenv("PYTHONPATH", str(MODULES))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver_folder()))
    monkeypatch.setenv("COMPRESS_CACHE", str(cache))
    for name in [name for name in os.environ if name.startswith("STAND_IN_")]:
        monkeypatch.delenv(name)
