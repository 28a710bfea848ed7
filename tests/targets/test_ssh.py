"""Which call of the user's own ssh reaches a target."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.targets.settings import TargetSettings
from compress.targets.ssh import command_for, split, where


def target(host: str, **more: object) -> TargetSettings:
    return TargetSettings.model_validate({"kind": "ssh", "host": host, **more})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("pi@board", ("pi@board", None)),
        ("pi@board:2222", ("pi@board", "2222")),
        ("board", ("board", None)),
        ("ssh://pi@board:22/", ("pi@board", "22")),
        ("pi@[fe80::1]:2222", ("pi@fe80::1", "2222")),
        ("pi@fe80::1", ("pi@fe80::1", None)),
    ],
)
def test_an_address_is_split(host: str, expected: tuple[str, str | None]) -> None:
    assert split(host) == expected
    assert where(target(host)) == expected[0]


def test_ssh_itself_understands_the_call_and_never_asks(tmp_path: Path) -> None:
    """`ssh -G` prints what it would do."""
    config = tmp_path / "config"
    config.write_text("Host board\n  HostName 192.0.2.1\n  IdentityFile /keys/board\n  RemoteCommand tmux\n")
    found = target("pi@board:2222", ssh_config=str(config))
    program, *arguments = command_for(found)("uname -m")
    told = subprocess.run([program, "-G", *arguments], capture_output=True, text=True, check=True).stdout
    settings = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    assert settings["user"] == "pi"
    assert settings["port"] == "2222"
    assert settings["hostname"] == "192.0.2.1"
    assert settings["identityfile"] == "/keys/board"
    assert settings["batchmode"] == "yes"
    assert settings["connecttimeout"] == "10"
    assert settings["serveraliveinterval"] == "5"
    assert settings.get("remotecommand", "none") == "none"
    assert arguments[-2:] == ["pi@board", "uname -m"]


def test_without_ssh_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no `ssh` on this machine; install the OpenSSH client"):
        command_for(target("pi@board"))
