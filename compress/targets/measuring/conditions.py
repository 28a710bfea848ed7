"""What may disturb a measurement: other work, clocks, heat."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

from compress.targets.measuring.system import read

CPUS, THERMAL = "/sys/devices/system/cpu", "/sys/class/thermal"
SCHEDULED = "/proc/thread-self/schedstat"
PI_FLAGS = "/sys/devices/platform/soc/soc:firmware/get_throttled"


def conditions(cores: list[int] | None = None) -> dict[str, Any]:
    """What may disturb a measurement: load over a minute, frequency governor, temperature in degrees Celsius.

    The temperature is that of the hottest zone. With `cores` also the frequency of each of them in MHz, how often heat
    slowed an x86 processor down since it was started, whether a Raspberry Pi is slowed down now, and the seconds that
    this thread has waited for a processor which others had, beside those of a clock. What the system does not tell is
    null.
    """
    governor = read(f"{CPUS}/cpu0/cpufreq/scaling_governor").strip()
    zones = [read(str(path)).strip() for path in Path(THERMAL).glob("thermal_zone*/temp")]
    degrees = [int(text) / 1000 for text in zones if text.lstrip("-").isdigit()]
    found = {
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governor": governor or None,
        "temperature_c": max(degrees, default=None),
    }
    if cores is None:
        return found
    slowed = {"throttle_count": throttle_count(), "throttled_now": throttled_now()}
    waiting = {"waited_s": waited_s(), "clock_s": time.monotonic()}
    return {**found, "frequency_mhz": frequencies_mhz(cores), **slowed, **waiting}


def frequencies_mhz(cores: list[int]) -> list[float] | None:
    """The frequency of each core now, as cpufreq or /proc/cpuinfo tells it."""
    kilohertz = [read(f"{CPUS}/cpu{core}/cpufreq/scaling_cur_freq").strip() for core in cores]
    if all(text.isdigit() for text in kilohertz):
        return [int(text) / 1000 for text in kilohertz]
    told = [float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read("/proc/cpuinfo"), re.MULTILINE)]
    return [told[core] for core in cores] if cores and max(cores) < len(told) else None


def waited_s() -> float | None:
    """How long this thread could have run but others had the processor, in seconds, as Linux counts it."""
    numbers = read(SCHEDULED).split()
    return int(numbers[1]) / 1e9 if len(numbers) == 3 and numbers[1].isdigit() else None


def throttle_count() -> int | None:
    """How often heat slowed a core or a package of this x86 processor down, summed over them."""
    counts = [read(str(path)).strip() for path in Path(CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    return sum(int(text) for text in counts if text.isdigit()) if counts else None


def throttled_now() -> bool | None:
    """Whether a Raspberry Pi is slowed down now by heat or low voltage: one of the last four bits of its flags."""
    with contextlib.suppress(ValueError):
        return int(read(PI_FLAGS).strip(), 16) & 0b1111 != 0
    return None
