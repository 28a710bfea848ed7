"""Folders like the kernel's."""

import time
from pathlib import Path

import pytest

from compress.targets.measuring.energy import Ina3221, Rapl
from tests.targets.measuring.running import write


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
    meter = Rapl(str(tmp_path))
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
    meter = Rapl(str(tmp_path))
    meter.start()
    write(first, energy_uj=300_000)
    assert meter.stop() == pytest.approx(1.0)


def test_rapl_that_may_not_be_read_is_absent(tmp_path: Path) -> None:
    for package in powercap(tmp_path):
        (package / "energy_uj").unlink()
    assert not Rapl(str(tmp_path))
    assert not Rapl(str(tmp_path / "nowhere"))


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
    assert Ina3221(str(tmp_path)).watts() == pytest.approx(5.0 * 0.4)


def test_rails_of_a_jetson_without_a_sensor_for_the_board_are_summed(tmp_path: Path) -> None:
    jetson(tmp_path, "GPU", "CPU", "SOC")
    assert Ina3221(str(tmp_path)).watts() == pytest.approx(5.0 * (0.4 + 0.8 + 1.2))
    assert not Ina3221(str(tmp_path / "nowhere"))


def test_power_is_summed_up_over_time(tmp_path: Path) -> None:
    chip = jetson(tmp_path, "VDD_IN")
    meter = Ina3221(str(tmp_path))
    start = time.perf_counter()
    meter.start()
    time.sleep(0.3)
    write(chip, curr1_input=4000)  # from 2 to 20 W
    middle = time.perf_counter()
    time.sleep(0.3)
    joules = meter.stop()
    end = time.perf_counter()
    assert joules == pytest.approx(2 * (middle - start) + 20 * (end - middle), rel=0.15)
