"""Meters of energy: of whole packages, GPUs and boards, idle included."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from compress.targets.measuring.nvidia import Nvml
from compress.targets.measuring.system import read

POWER_SECONDS = 0.02
"""Between two readings of a sensor that tells power."""


class Rapl:
    """Intel's and AMD's counters of each processor package, in microjoules, which begin anew when they are full."""

    name = "rapl"

    def __init__(self, root: str = "/sys/class") -> None:
        domains = sorted(Path(root, "powercap").glob("intel-rapl:*"))
        packages = [path for path in domains if read(str(path / "name")).startswith("package")]
        self._files = [path / "energy_uj" for path in packages if read(str(path / "energy_uj")).strip().isdigit()]
        self._ranges = [int(read(str(file.parent / "max_energy_range_uj")) or 0) for file in self._files]
        self._before: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._files)

    def _counters(self) -> list[int]:
        return [int(read(str(file))) for file in self._files]

    def start(self) -> None:
        """Count from now."""
        self._before = self._counters()

    def stop(self) -> float:
        """Joules since then."""
        joules = 0.0
        for index, after in enumerate(self._counters()):
            before = self._before[index]
            joules += (after - before + (self._ranges[index] if after < before else 0)) / 1e6
        return joules


class Gpu:
    """The counter of an NVIDIA GPU."""

    name = "nvml"

    def __init__(self, nvml: Nvml | None) -> None:
        self._nvml = nvml
        self._before = 0.0

    def __bool__(self) -> bool:
        try:
            return self._nvml is not None and self._nvml.joules() >= 0
        except (OSError, AttributeError):
            return False

    def start(self) -> None:
        """Count from now."""
        self._before = self._nvml.joules() if self._nvml is not None else 0.0

    def stop(self) -> float:
        """Joules since then."""
        return self._nvml.joules() - self._before if self._nvml is not None else 0.0


class Ina3221:
    """A Jetson's sensor of volts and amperes: of the whole board (VDD_IN), else of all its rails summed.

    It tells power at a moment, which a thread of its own reads and sums up (trapezoids).
    """

    name = "ina3221"

    def __init__(self, root: str = "/sys/class") -> None:
        rails: list[tuple[str, Path, Path]] = []
        for chip in sorted(Path(root, "hwmon").glob("hwmon*")):
            if read(str(chip / "name")).strip() == "ina3221":
                for label in sorted(chip.glob("in*_label")):
                    number = label.name[len("in") : -len("_label")]
                    volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
                    if volts.is_file() and amperes.is_file():
                        rails.append((read(str(label)).strip(), volts, amperes))
        whole = [rail for rail in rails if rail[0] == "VDD_IN"]
        self._rails = [(volts, amperes) for _, volts, amperes in whole or rails]
        self._readings: list[tuple[float, float]] = []
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        return bool(self._rails)

    def watts(self) -> float:
        """The power now: millivolts times milliamperes."""
        return sum(float(read(str(v)) or 0) * float(read(str(a)) or 0) for v, a in self._rails) / 1e6

    def start(self) -> None:
        """Count from now."""
        self._readings, self._end = [(time.perf_counter(), self.watts())], threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(POWER_SECONDS):
            self._readings.append((time.perf_counter(), self.watts()))

    def stop(self) -> float:
        """Joules since then."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self._readings.append((time.perf_counter(), self.watts()))
        joules, (last, watts) = 0.0, self._readings[0]
        for now, power in self._readings[1:]:
            joules += (now - last) * (watts + power) / 2
            last, watts = now, power
        return joules


def energy_meters(nvml: Nvml | None) -> list[Any]:
    """The meters that this machine has and lets us read: often none, and RAPL only for root."""
    return [meter for meter in (Rapl(), Gpu(nvml), Ina3221()) if meter]
