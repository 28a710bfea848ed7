"""Android devices through Google's `adb`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from compress.errors import UsageError
from compress.targets.failures import UnreachableError
from compress.targets.settings import TargetSettings

TERMUX = "/data/data/com.termux/files/usr/bin/python3"
FOLDER = "/data/local/tmp"
"""Where the shell's user may write."""


def python_for(target: TargetSettings) -> str:
    """The device's Python: as set, else the one in its PATH, else Termux's."""
    if target.python != "python3":
        return target.python
    return f"$(command -v python3 || echo {TERMUX})"


def program(target: TargetSettings) -> str:
    """Where `adb` is. Raises UsageError if it is not installed."""
    found = shutil.which("adb")
    if found is None:
        raise UsageError(
            f"target '{target.name}': there is no `adb` on this machine; install Android's platform tools "
            "(Debian: sudo apt install adb)"
        )
    return found


def command_for(target: TargetSettings) -> Callable[[str], Sequence[str]]:
    """What runs a line in the shell of a device, its standard input and output untouched."""
    start = [program(target), "-s", target.serial or "", "shell", "-T"]
    return lambda line: [*start, line]


def refused(target: TargetSettings, said: str) -> UsageError | UnreachableError:
    """Why adb could not reach a device, from what it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = lines[-1] if lines else "it is silent"
    text = f"target '{target.name}' (adb {target.serial}): "
    if "unauthorized" in said:
        return UsageError(f"{text}it does not trust this computer yet: unlock it and allow USB debugging [{why}]")
    if "not found" in said or "offline" in said:
        return UnreachableError(
            f"{text}it is not connected: look at `adb devices`, and allow USB debugging [{why}]", target.name
        )
    return UnreachableError(f"{text}it cannot be reached: {why}", target.name)
