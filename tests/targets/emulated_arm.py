"""An emulated 64-bit Arm Python with ONNX Runtime's real Arm kernels, for tests and for nothing that is timed.

Needs root, Debian's package manager and the script `arm64` in the folder that COMPRESS_TOOLS names. The file system
that it makes (about 400 MB) is kept in COMPRESS_ARM64_ROOT, or in the user's cache folder.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import platformdirs
import pytest


def arm64(verb: str, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the script."""
    command = ["bash", str(Path(os.environ["COMPRESS_TOOLS"]) / "arm64"), verb, str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def arm64_root() -> Path:
    """The arm64 file system, made if it is not there; skips the test where it cannot be."""
    if not os.environ.get("COMPRESS_TOOLS"):
        pytest.skip("COMPRESS_TOOLS does not name the folder with the script `arm64`")
    if platform.system() != "Linux" or os.geteuid() != 0:
        pytest.skip("emulating arm64 needs Linux and root")
    if not shutil.which("qemu-aarch64-static") and not shutil.which("apt-get"):
        pytest.skip("emulating arm64 needs qemu-user-static, which only apt-get can install here")
    given = os.environ.get("COMPRESS_ARM64_ROOT")
    folder = Path(given) if given else platformdirs.user_cache_path("compress-arm64")
    made = arm64("setup", folder)
    if made.returncode != 0:
        pytest.skip(f"the arm64 file system could not be made: {made.stderr.strip()[-300:]}")
    return folder
