"""What this machine is: what its results depend on besides settings."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from compress.targets.measuring.system import read, sysctl

FEATURES = {
    "avx": "avx", "avx2": "avx2", "fma": "fma", "avx512f": "avx512f", "avx512bw": "avx512bw",
    "avx512_vnni": "avx512_vnni", "avx_vnni": "avx_vnni", "avx_vnni_int8": "avx_vnni_int8",
    "avx512_bf16": "avx512_bf16", "amx_int8": "amx_int8", "amx_bf16": "amx_bf16",
    "asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "sve": "sve", "sve2": "sve2", "asimdhp": "fp16",
    "bf16": "bf16",
}  # fmt: skip
"""Linux's name in /proc/cpuinfo -> ours, for what decides how fast int8 and float arithmetic are."""
APPLE_FEATURES = {
    "AdvSIMD": "neon",
    "FEAT_DotProd": "dotprod",
    "FEAT_I8MM": "i8mm",
    "FEAT_FP16": "fp16",
    "FEAT_BF16": "bf16",
}


def machine() -> dict[str, Any]:
    """The processor: architecture, model, the features that matter for int8 arithmetic, cores, operating system."""
    model, features = _processor()
    return {
        "architecture": platform.machine(),
        "cpu": model,
        "features": sorted(features),
        "cores": os.cpu_count() or 1,
        "system": platform.system(),
    }


def _processor() -> tuple[str, set[str]]:
    """(model name, features) as the operating system tells them; both empty where it does not."""
    if sys.platform == "darwin":
        names = {ours for theirs, ours in APPLE_FEATURES.items() if sysctl("hw.optional.arm." + theirs) == "1"}
        intel = sysctl("machdep.cpu.features machdep.cpu.leaf7_features").lower().split()
        names |= {FEATURES[flag] for flag in intel if flag in FEATURES}
        return sysctl("machdep.cpu.brand_string"), names
    text = read("/proc/cpuinfo")
    values = {
        key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    flags = (values.get("flags") or values.get("features") or "").split()
    part = f"implementer {values.get('cpu implementer')} part {values['cpu part']}" if "cpu part" in values else ""
    board = read("/proc/device-tree/model").strip("\0\n ")
    model = values.get("model name") or ", ".join(filter(None, (board, part))) or platform.processor()
    return model, {FEATURES[flag] for flag in flags if flag in FEATURES}


def available_cores() -> list[int]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
