"""Folders like the kernel's."""

from pathlib import Path

import pytest

from compress.targets.measuring import conditions
from tests.targets.measuring.running import write


def test_clocks_heat_and_throttling_are_read_from_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus, thermal = tmp_path / "cpu", tmp_path / "thermal"
    for core, kilohertz in enumerate((1_800_000, 2_400_000)):
        write(cpus / f"cpu{core}" / "cpufreq", scaling_cur_freq=kilohertz, scaling_governor="ondemand")
        write(cpus / f"cpu{core}" / "thermal_throttle", core_throttle_count=core + 1, package_throttle_count=10)
    write(thermal / "thermal_zone0", temp=41_000)
    write(thermal / "thermal_zone1", temp=63_500)
    monkeypatch.setattr(conditions, "CPUS", str(cpus))
    monkeypatch.setattr(conditions, "THERMAL", str(thermal))
    monkeypatch.setattr(conditions, "PI_FLAGS", str(tmp_path / "none"))
    found = conditions.conditions([1])
    assert (found["governor"], found["temperature_c"], found["frequency_mhz"]) == ("ondemand", 63.5, [2400.0])
    assert (found["throttle_count"], found["throttled_now"]) == (23, None)
    assert set(conditions.conditions()) == {"load_1min", "governor", "temperature_c"}


@pytest.mark.parametrize(("flags", "now"), [("0", False), ("50000", False), ("50005", True), ("0x4", True)])
def test_a_raspberry_pi_tells_that_it_is_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, now: bool
) -> None:
    """Bits 0 to 3 are now, 16 to 19 since it was started (Raspberry Pi documentation, vcgencmd get_throttled)."""
    write(tmp_path, get_throttled=flags)
    monkeypatch.setattr(conditions, "PI_FLAGS", str(tmp_path / "get_throttled"))
    assert conditions.throttled_now() is now


def test_a_system_that_tells_nothing_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "read", lambda path: "")
    for name in ("CPUS", "THERMAL", "PI_FLAGS", "SCHEDULED"):
        monkeypatch.setattr(conditions, name, str(tmp_path))
    found = conditions.conditions([0])
    told = ("temperature_c", "frequency_mhz", "throttle_count", "throttled_now", "waited_s")
    assert {found[key] for key in told} == {None}


def test_how_long_a_thread_waited_is_read_from_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nanoseconds that it ran and waited, and how often it ran (kernel documentation, sched-stats)."""
    write(tmp_path, schedstat="81023 2500000000 17")
    monkeypatch.setattr(conditions, "SCHEDULED", str(tmp_path / "schedstat"))
    first, second = conditions.conditions([0]), conditions.conditions([0])
    assert first["waited_s"] == second["waited_s"] == 2.5
    assert first["clock_s"] < second["clock_s"] < first["clock_s"] + 10
    assert "waited_s" not in conditions.conditions()
