"""What the measuring program reads of energy, clocks, heat and memory: folders like the kernel's, and stand-ins."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from compress.targets import measure

GNU_TIME = "/usr/bin/time"


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def powercap(root: Path) -> tuple[Path, Path]:
    """Two packages, a core and a DRAM domain below the first, and the whole platform, as Linux lays them out."""
    folder = root / "powercap"
    write(folder / "intel-rapl", enabled=1)
    first = write(folder / "intel-rapl:0", name="package-0", energy_uj=1_000_000, max_energy_range_uj=262_143_328_850)
    second = write(folder / "intel-rapl:1", name="package-1", energy_uj=50_000, max_energy_range_uj=65_532_610_987)
    write(folder / "intel-rapl:0:0", name="core", energy_uj=5, max_energy_range_uj=262_143_328_850)
    write(folder / "intel-rapl:0:2", name="dram", energy_uj=5, max_energy_range_uj=65_532_610_987)
    write(folder / "intel-rapl:2", name="psys", energy_uj=5, max_energy_range_uj=262_143_328_850)
    return first, second


def test_rapl_sums_packages_and_nothing_inside_or_around_them(tmp_path: Path) -> None:
    first, second = powercap(tmp_path)
    meter = measure.Rapl(str(tmp_path))
    assert meter
    meter.start()
    write(first, energy_uj=4_000_000)
    write(second, energy_uj=550_000)
    for inside in ("intel-rapl:0:0", "intel-rapl:0:2", "intel-rapl:2"):
        write(tmp_path / "powercap" / inside, energy_uj=9_000_000)
    assert meter.stop() == pytest.approx(3.5)


def test_a_rapl_counter_that_began_anew_has_gone_on(tmp_path: Path) -> None:
    first, _ = powercap(tmp_path)
    write(first, energy_uj=262_143_328_850 - 700_000)
    meter = measure.Rapl(str(tmp_path))
    meter.start()
    write(first, energy_uj=300_000)
    assert meter.stop() == pytest.approx(1.0)


def test_rapl_that_may_not_be_read_is_absent(tmp_path: Path) -> None:
    for package in powercap(tmp_path):
        (package / "energy_uj").unlink()
    assert not measure.Rapl(str(tmp_path))
    assert not measure.Rapl(str(tmp_path / "nowhere"))


def jetson(root: Path, *labels: str) -> Path:
    """A chip that drives a fan, and an INA3221: millivolts and milliamperes of each rail."""
    write(root / "hwmon" / "hwmon0", name="pwmfan", in1_label="VDD_IN", in1_input=9, curr1_input=9)
    chip = write(root / "hwmon" / "hwmon1", name="ina3221", in7_label="sum of shunt voltages")
    for number, label in enumerate(labels, start=1):
        files = {f"in{number}_label": label, f"in{number}_input": 5000, f"curr{number}_input": 400 * number}
        write(chip, **files)
    return chip


def test_a_jetsons_board_counts_once(tmp_path: Path) -> None:
    jetson(tmp_path, "VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
    assert measure.Ina3221(str(tmp_path)).watts() == pytest.approx(5.0 * 0.4)


def test_rails_of_a_jetson_without_a_sensor_for_the_board_are_summed(tmp_path: Path) -> None:
    jetson(tmp_path, "GPU", "CPU", "SOC")
    assert measure.Ina3221(str(tmp_path)).watts() == pytest.approx(5.0 * (0.4 + 0.8 + 1.2))
    assert not measure.Ina3221(str(tmp_path / "nowhere"))


def test_power_is_summed_up_over_time(tmp_path: Path) -> None:
    chip = jetson(tmp_path, "VDD_IN")
    meter = measure.Ina3221(str(tmp_path))
    start = time.perf_counter()
    meter.start()
    time.sleep(0.3)
    write(chip, curr1_input=4000)  # from 2 to 20 W
    middle = time.perf_counter()
    time.sleep(0.3)
    joules = meter.stop()
    end = time.perf_counter()
    assert joules == pytest.approx(2 * (middle - start) + 20 * (end - middle), rel=0.15)


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
    nvml = measure.Nvml(library)
    assert (library.asked, nvml.used_bytes()) == ("index 0", 3 << 30)
    meter = measure.Gpu(nvml)
    assert meter
    meter.start()
    library.millijoules += 1_250
    assert meter.stop() == pytest.approx(1.25)


def test_the_gpu_is_the_first_that_cuda_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, asked in (("2,0", "index 2"), ("GPU-5a1c, GPU-77", "GPU-5a1c")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        library = StandInNvml()
        measure.Nvml(library)
        assert library.asked == asked


def test_a_gpu_that_counts_no_energy_has_no_meter() -> None:
    assert not measure.Gpu(measure.Nvml(StandInNvml(refuses="energy")))
    assert not measure.Gpu(None)
    with pytest.raises(OSError, match="refuses nvmlInit_v2"):
        measure.Nvml(StandInNvml(refuses="init"))


def test_the_cpu_has_no_gpu() -> None:
    assert measure.open_nvml("CPUExecutionProvider") is None


class StandInSession:
    """Stands in for a session: a call takes a millisecond."""

    calls = 0

    def get_outputs(self) -> list[Any]:
        return []

    def run(self, names: Any, feeds: Any) -> None:
        self.calls += 1
        time.sleep(0.001)


class StandInMeter:
    """Stands in for a meter: 6 joules a second."""

    name = "stand-in"

    def start(self) -> None:
        self.before = time.perf_counter()

    def stop(self) -> float:
        return 6 * (time.perf_counter() - self.before)


def test_energy_is_that_of_an_example_over_the_offline_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.2)
    found = measure.offline(StandInSession(), {}, 8, 0.01, [StandInMeter()])
    assert found["batch"] == 8
    assert found["joules_per_example"]["stand-in"] * found["examples_per_second"] == pytest.approx(6, rel=0.05)
    assert set(measure.offline(StandInSession(), {}, 8, 0.01, [])) == {"batch", "examples_per_second"}


def test_a_rehearsal_counts_no_second_of_energy() -> None:
    session = StandInSession()
    measure.offline(session, {}, 1, 0.0, [StandInMeter()])
    assert session.calls <= 4


def test_clocks_heat_and_throttling_are_read_from_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus, thermal = tmp_path / "cpu", tmp_path / "thermal"
    for core, kilohertz in enumerate((1_800_000, 2_400_000)):
        write(cpus / f"cpu{core}" / "cpufreq", scaling_cur_freq=kilohertz, scaling_governor="ondemand")
        write(cpus / f"cpu{core}" / "thermal_throttle", core_throttle_count=core + 1, package_throttle_count=10)
    write(thermal / "thermal_zone0", temp=41_000)
    write(thermal / "thermal_zone1", temp=63_500)
    monkeypatch.setattr(measure, "CPUS", str(cpus))
    monkeypatch.setattr(measure, "THERMAL", str(thermal))
    monkeypatch.setattr(measure, "PI_FLAGS", str(tmp_path / "none"))
    found = measure.conditions([1])
    assert (found["governor"], found["temperature_c"], found["frequency_mhz"]) == ("ondemand", 63.5, [2400.0])
    assert (found["throttle_count"], found["throttled_now"]) == (23, None)
    assert set(measure.conditions()) == {"load_1min", "governor", "temperature_c"}


@pytest.mark.parametrize(("flags", "now"), [("0", False), ("50000", False), ("50005", True), ("0x4", True)])
def test_a_raspberry_pi_tells_that_it_is_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, now: bool
) -> None:
    """Bits 0 to 3 are now, 16 to 19 since it was started (Raspberry Pi documentation, vcgencmd get_throttled)."""
    write(tmp_path, get_throttled=flags)
    monkeypatch.setattr(measure, "PI_FLAGS", str(tmp_path / "get_throttled"))
    assert measure.throttled_now() is now


def test_a_system_that_tells_nothing_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_read", lambda path: "")
    for name in ("CPUS", "THERMAL", "PI_FLAGS"):
        monkeypatch.setattr(measure, name, str(tmp_path))
    found = measure.conditions([0])
    assert {found[key] for key in ("temperature_c", "frequency_mhz", "throttle_count", "throttled_now")} == {None}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a process forget its peak")
def test_what_was_taken_for_a_moment_before_a_model_is_no_part_of_its_base() -> None:
    array = np.ones(16 << 20)  # 128 MiB
    high = measure.peak_memory_bytes()
    del array
    measure.forget_peak_memory()
    assert high - measure.peak_memory_bytes() > 100 << 20


@pytest.mark.skipif(not shutil.which(GNU_TIME), reason=f"GNU time is not installed as {GNU_TIME}")
def test_peak_memory_is_what_gnu_time_says_of_the_program(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[batch,4] x) => (float[batch,4] y) { y = Relu(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    latency = {"batches": [1, 2_000_000], "warmup_seconds": 0.0, "seconds": 0.0, "minimum_calls": 2}
    request = {"provider": "CPUExecutionProvider", "threads": 1, "jobs": [{"model": str(tmp_path / "m.onnx")}]}
    request["jobs"][0]["latency"] = latency  # type: ignore[index]
    (tmp_path / "request.json").write_text(json.dumps(request))
    program = [sys.executable, "-P", measure.__file__, str(tmp_path / "request.json"), str(tmp_path / "result.json")]
    said = subprocess.run([GNU_TIME, "-v", *program], capture_output=True, text=True, check=True).stderr
    told = re.search(r"Maximum resident set size \(kbytes\): (\d+)", said)
    small, large = json.loads((tmp_path / "result.json").read_text())["jobs"][0]["runs"]
    assert told and large["peak_bytes"] == pytest.approx(int(told[1]) * 1024, rel=0.05)
    assert large["peak_bytes"] - small["peak_bytes"] > 2 * 4 * 4 * 2_000_000 * 0.95  # what goes in and what comes out
