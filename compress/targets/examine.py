"""What a machine is and how fit it is to measure on: a program of the standard library, run on a target by `doctor`.

    python examine.py REQUEST.json RESULT.json

Everything that cannot be told is null or absent; nothing is changed. The request may name a `folder` whose disk counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COMMAND_SECONDS = 10
CPUS = "/sys/devices/system/cpu"
THROTTLED = {
    0: "undervoltage now", 1: "frequency capped now", 2: "throttled now", 3: "at the soft temperature limit now",
    16: "undervoltage since it was started", 17: "frequency was capped since it was started",
    18: "throttled since it was started", 19: "at the soft temperature limit since it was started",
}  # fmt: skip
"""Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd")."""
GPU_FIELDS = "name,memory.total,memory.free,compute_cap,driver_version,temperature.gpu"


def read(path: str) -> str:
    """A file's text without the white space around it; empty where there is none."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    return ""


def said(*command: str) -> str:
    """What a command prints; empty where it is not there or fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def throttling() -> list[str] | None:
    """A Raspberry Pi's flags in words; None on other machines."""
    text = said("vcgencmd", "get_throttled")
    match = re.search(r"throttled=(0x[0-9a-fA-F]+)", text)
    if match is None:
        return None
    flags = int(match.group(1), 16)
    return [words for bit, words in THROTTLED.items() if flags >> bit & 1]


def temperatures() -> dict[str, float]:
    """The thermal zones' temperatures in degrees Celsius by their kinds."""
    found = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        text = read(f"{zone}/temp")
        if text.lstrip("-").isdigit():
            found[read(f"{zone}/type") or zone.name] = int(text) / 1000
    return found


def governors() -> list[str]:
    """The frequency governors in use."""
    return sorted({read(str(path)) for path in Path(CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""})


def memory_bytes() -> dict[str, int]:
    """`total` and `available`, as Linux tells them."""
    rows = re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    names = {"MemTotal": "total", "MemAvailable": "available"}
    return {names[name]: int(kilobytes) * 1024 for name, kilobytes in rows}


def gpus() -> list[dict[str, str]]:
    """NVIDIA's GPUs, as its own tool tells them."""
    rows = said("nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader").splitlines()
    fields = GPU_FIELDS.split(",")
    return [dict(zip(fields, map(str.strip, row.split(",")))) for row in rows if row.strip()]  # noqa: B905 - Python 3.9


def packages() -> dict[str, dict[str, Any]]:
    """`version`, or `error` where it cannot be imported, of what the measuring program needs and may use."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    found: dict[str, dict[str, Any]] = {}
    for name in ("numpy", "onnxruntime", "tensorrt"):
        try:
            module = __import__(name)
        except ImportError as error:
            found[name] = {"version": None, "error": str(error)}
        else:
            found[name] = {"version": str(getattr(module, "__version__", "unknown"))}
            if name == "onnxruntime" and hasattr(module, "get_available_providers"):
                found[name]["providers"] = list(module.get_available_providers())
    return found


def examine(folder: str | None) -> dict[str, Any]:
    """Everything."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', read("/etc/os-release"), re.MULTILINE))
    return {
        "system": release.get("PRETTY_NAME") or f"{platform.system()} {platform.release()}",
        "kernel": platform.release(),
        "board": read("/proc/device-tree/model") or None,
        "jetson": read("/etc/nv_tegra_release").split(",")[0] or None,
        "power_mode": next(iter(said("nvpmodel", "-q").splitlines()), None),
        "python": {
            "version": platform.python_version(),
            "path": sys.executable,
            "environment": sys.prefix != sys.base_prefix,
            "externally_managed": (Path(os.__file__).parent / "EXTERNALLY-MANAGED").is_file(),
        },
        "packages": packages(),
        "memory_bytes": memory_bytes(),
        "free_bytes": shutil.disk_usage(folder or tempfile.gettempdir()).free,
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governors": governors(),
        "temperatures_c": temperatures(),
        "throttling": throttling(),
        "gpus": gpus(),
    }


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(json.dumps(examine(asked.get("folder"))), encoding="utf-8")
