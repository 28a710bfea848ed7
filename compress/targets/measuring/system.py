"""Reading what the operating system tells; nothing where it tells nothing."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path


def read(path: str) -> str:
    """A file's text, or nothing where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def sysctl(names: str) -> str:
    """The values of one or more of macOS's settings."""
    with contextlib.suppress(OSError):
        command = ["sysctl", "-n", *names.split()]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""
