"""The memory of this process."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

from compress.targets.measuring.system import read


def forget_peak_memory() -> None:
    """Start the peak anew where Linux lets us: what importing libraries took for a moment hides what a model takes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """The most memory that was resident in this process so far: VmHWM on Linux, the system's equivalent elsewhere."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", read("/proc/self/status"), re.MULTILINE)
    if match:
        return int(match.group(1)) * 1024
    if sys.platform == "win32":
        return _peak_working_set_bytes()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _peak_working_set_bytes() -> int:
    """Windows' PeakWorkingSetSize: the field after two 32-bit ones in PROCESS_MEMORY_COUNTERS."""
    import ctypes

    counters = (ctypes.c_size_t * 10)()
    system: Any = ctypes
    system.windll.kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(system.windll.kernel32.GetCurrentProcess())
    if not system.windll.psapi.GetProcessMemoryInfo(process, counters, ctypes.sizeof(counters)):
        raise OSError("Windows does not tell this process's memory")
    return int(counters[1])
