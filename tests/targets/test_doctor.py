"""What a target is told to be, on this machine and behind a real sshd, and what is to be done about what is wrong."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import psutil
import pytest

from compress.cli import main
from compress.targets import examine, remote
from compress.targets.doctor import disturbances, examine_target, install, int8_there, packages, room
from compress.targets.measuring.machine import machine
from compress.targets.settings import TargetSettings
from tests.targets.ssh_server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as found:
        yield found


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["doctor", *arguments])
    return int(end.value.code or 0)


def test_a_device_is_examined_in_seconds_and_left_clean(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(json.dumps(server.target().model_dump(mode="json", exclude_defaults=True)))
    begun = time.monotonic()
    assert call("--target", str(path), "--json") == 0
    assert time.monotonic() - begun < 20
    told = json.loads(capsys.readouterr().out)
    assert told["machine"] == machine()
    assert told["found"]["packages"]["onnxruntime"]["version"] == onnxruntime.__version__
    assert told["found"]["python"]["version"] == platform.python_version()
    assert told["found"]["memory_bytes"]["total"] == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    assert told["found"]["free_bytes"] == pytest.approx(psutil.disk_usage(str(server.folder)).free, rel=0.05)
    assert server.left() == []
    assert call("--target", str(path)) == 0
    said = capsys.readouterr().out
    assert f"good: onnxruntime {onnxruntime.__version__}" in said
    assert "int8" in said


def test_a_device_without_the_runtime_is_told_what_to_install(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(empty)], check=True)
    path = tmp_path / "device.yaml"
    python = str(empty / "bin" / "python")
    path.write_text(json.dumps(server.target(python=python).model_dump(mode="json", exclude_defaults=True)))
    assert call("--target", str(path)) == 5
    said = capsys.readouterr()
    assert f"-> {python} -m pip install numpy onnxruntime" in said.out
    assert "error: device cannot be measured on: numpy cannot be imported" in said.err
    assert server.left() == []


def test_a_device_that_is_away_has_a_status_of_its_own(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(json.dumps(server.target(host="device:1").model_dump(mode="json", exclude_defaults=True)))
    assert call("--target", str(path)) == 6
    remote.close_all()


def test_this_machine_is_a_target_too() -> None:
    told = examine_target(TargetSettings())
    assert {finding["level"] for finding in told["findings"]} <= {"good", "warning"}
    assert told["found"]["packages"]["onnxruntime"]["providers"] == onnxruntime.get_available_providers()


@pytest.mark.parametrize(
    ("architecture", "features", "level", "says"),
    [
        ("x86_64", ["avx2", "avx512_vnni"], "good", "int8 by avx512_vnni: products are summed without saturation"),
        ("x86_64", ["avx2"], "warning", "no VNNI: sums of two int8 products can saturate"),
        ("aarch64", ["neon", "dotprod", "i8mm"], "good", "int8 by i8mm, dotprod; emit ort-arm"),
        ("aarch64", ["neon"], "warning", "neither dotprod nor i8mm"),
        ("aarch64", [], "warning", "cannot be told"),
        ("riscv64", [], "warning", "nothing is known of int8 on riscv64"),
    ],
)
def test_what_int8_means_follows_the_instructions(
    architecture: str, features: list[str], level: str, says: str
) -> None:
    found = int8_there({"architecture": architecture, "features": features})
    assert found.level == level
    assert says in found.says


CALM: dict[str, Any] = {"governors": ["performance"], "temperatures_c": {"cpu": 45.0}, "throttling": None,
                        "load_1min": 0.1, "jetson": None}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says", "do"),
    [
        ({"governors": ["ondemand"]}, "(governor ondemand)", "echo performance | sudo tee"),
        ({"governors": ["schedutil"], "jetson": "# R36 (release)"}, "(governor schedutil)", "sudo jetson_clocks"),
        ({"temperatures_c": {"cpu": 45.0, "gpu": 81.0}}, "it is hot: 81 °C", "cool down"),
        ({"throttling": ["throttled now"]}, "its firmware reports: throttled now", "stronger supply"),
        ({"load_1min": 3.2}, "it is busy: 3.2 processes want its 4 cores", "end other work"),
    ],
)
def test_what_makes_times_unsteady_is_warned_of(changes: dict[str, Any], says: str, do: str) -> None:
    assert [finding.level for finding in disturbances(CALM, 4)] == ["good"]
    found = [finding for finding in disturbances({**CALM, **changes}, 4) if finding.level == "warning"]
    assert len(found) == 1
    assert says in found[0].says
    assert do in found[0].do


def test_little_room_is_warned_of() -> None:
    found = room({"free_bytes": 10**8, "memory_bytes": {"total": 10**9, "available": 10**8}})
    assert [finding.says for finding in found] == ["100 MB of its disk are free", "100 MB of memory are available"]
    assert room({"free_bytes": 10**10, "memory_bytes": {}}) == []


def test_a_system_python_that_may_not_be_changed_gets_an_environment() -> None:
    target = TargetSettings.model_validate({"kind": "ssh", "host": "pi"})
    python = {"path": "/usr/bin/python3", "environment": False, "externally_managed": True}
    do = install(target, ["numpy", "onnxruntime"], python)
    assert do.startswith("python3 -m venv ~/compress-python && ~/compress-python/bin/pip install numpy onnxruntime")
    assert "python: ~/compress-python/bin/python" in do


def test_a_provider_that_is_not_there_is_wrong() -> None:
    there = {"numpy": {"version": "2.0"}, "onnxruntime": {"version": "1.23", "providers": ["CPUExecutionProvider"]}}
    python = {"path": "p", "environment": True, "externally_managed": False}
    target = TargetSettings.model_validate({"kind": "ssh", "host": "orin", "provider": "cuda"})
    found = [finding for finding in packages(target, {"packages": there, "python": python}) if finding.level == "wrong"]
    assert [finding.says for finding in found] == ["its ONNX Runtime has no CUDAExecutionProvider"]


def test_a_raspberry_pis_flags_are_put_into_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho throttled=0x50005\n")
    program.chmod(0o755)
    assert examine.throttling() is None
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert examine.throttling() == [
        "undervoltage now", "throttled now", "undervoltage since it was started", "throttled since it was started",
    ]  # fmt: skip
