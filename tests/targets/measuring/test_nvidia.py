"""A stand-in for NVIDIA's library."""

import json
from pathlib import Path
from typing import Any

import pytest

from compress.targets.measuring.energy import Gpu
from compress.targets.measuring.nvidia import Nvml, open_nvml
from compress.targets.measuring.program import main


class StandInNvml:
    """Stands in for NVIDIA's library: its functions as nvml.h declares them, on one GPU that is not there."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.used, self.millijoules, self.asked = refuses, 3 << 30, 5_000, ""

    def _status(self, name: str) -> int:
        return 3 if name == self.refuses else 0  # NVML_ERROR_NOT_SUPPORTED

    def nvmlInit_v2(self) -> int:
        return self._status("init")

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        self.asked, device._obj.value = f"index {index}", 77
        return self._status("handle")

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:
        self.asked, device._obj.value = uuid.decode(), 77
        return self._status("handle")

    def nvmlDeviceGetName(self, device: Any, name: Any, length: int) -> int:
        assert device.value == 77
        name.value = b"NVIDIA Nothing 77"[: length - 1]
        return self._status("name")

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        assert device.value == 77
        memory._obj[:] = [80 << 30, (80 << 30) - self.used, self.used]
        return self._status("memory")

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, energy: Any) -> int:
        assert device.value == 77
        energy._obj.value = self.millijoules
        return self._status("energy")


def test_a_gpus_memory_and_energy_are_its_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    library = StandInNvml()
    nvml = Nvml(library)
    assert (library.asked, nvml.used_bytes()) == ("index 0", 3 << 30)
    assert nvml.name() == "NVIDIA Nothing 77"
    meter = Gpu(nvml)
    assert meter
    meter.start()
    library.millijoules += 1_250
    assert meter.stop() == pytest.approx(1.25)


def test_the_gpu_is_the_first_that_cuda_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, asked in (("2,0", "index 2"), ("GPU-5a1c, GPU-77", "GPU-5a1c")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        library = StandInNvml()
        Nvml(library)
        assert library.asked == asked


def test_a_gpu_that_counts_no_energy_has_no_meter() -> None:
    assert not Gpu(Nvml(StandInNvml(refuses="energy")))
    assert not Gpu(None)
    with pytest.raises(OSError, match="refuses nvmlInit_v2"):
        Nvml(StandInNvml(refuses="init"))


def test_the_cpu_has_no_gpu() -> None:
    assert open_nvml("CPUExecutionProvider") is None


@pytest.mark.parametrize(
    ("provider", "refuses", "gpu"),
    [
        ("CUDAExecutionProvider", "", "NVIDIA Nothing 77"),
        ("CUDAExecutionProvider", "name", None),
        ("CUDAExecutionProvider", "init", None),
        ("CPUExecutionProvider", "", None),
    ],
)
def test_the_machine_of_what_cuda_computes_is_its_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, refuses: str, gpu: str | None
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: StandInNvml(refuses))
    (tmp_path / "request.json").write_text(json.dumps({"provider": provider, "threads": 1, "jobs": []}))
    assert main(str(tmp_path / "request.json"), str(tmp_path / "result.json")) == 0
    told = json.loads((tmp_path / "result.json").read_text())["machine"]
    assert told.get("gpu") == gpu
    assert told["architecture"]
