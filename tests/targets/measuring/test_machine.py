import sys

import pytest

from compress.targets.measuring import machine


@pytest.mark.parametrize(
    ("text", "model", "features"),
    [
        ("model name : A CPU\nflags : fpu avx2 avx512_vnni amx_int8\n", "A CPU", {"avx2", "avx512_vnni", "amx_int8"}),
        ("Features : fp asimd asimddp i8mm\nCPU implementer : 0x41\nCPU part : 0xd0b\n", "implementer 0x41 part 0xd0b",
         {"neon", "dotprod", "i8mm"}),
    ],
)  # fmt: skip
def test_processors_are_read_from_linux(
    monkeypatch: pytest.MonkeyPatch, text: str, model: str, features: set[str]
) -> None:
    monkeypatch.setattr(machine, "read", lambda path: text if path == "/proc/cpuinfo" else "")
    monkeypatch.setattr(sys, "platform", "linux")
    assert machine.machine()["cpu"] == model
    assert set(machine.machine()["features"]) == features


def test_processors_are_read_from_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"machdep.cpu.brand_string": "Apple M2", "hw.optional.arm.FEAT_DotProd": "1", "hw.optional.arm.AdvSIMD": "1"}
    monkeypatch.setattr(machine, "sysctl", lambda name: told.get(name, ""))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.machine()["cpu"] == "Apple M2"
    assert machine.machine()["features"] == ["dotprod", "neon"]
