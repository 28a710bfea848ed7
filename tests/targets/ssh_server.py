"""A real sshd on loopback, with keys made for it: used by every test of targets behind ssh."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from compress.targets.settings import TargetSettings

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass(frozen=True)
class Server:
    """Where it listens, and what a client needs to be let in. `folder` is the device's: nothing else is written."""

    port: int
    config: Path
    keys: Path
    folder: Path
    pid: int

    def target(self, **settings: object) -> TargetSettings:
        """The target that this server is."""
        here = {"name": "device", "kind": "ssh", "host": f"device:{self.port}", "ssh_config": str(self.config)}
        there = {"python": sys.executable, "folder": str(self.folder)}
        return TargetSettings.model_validate({**here, **there, **settings})

    def left(self) -> list[str]:
        """What lies in the device's folder."""
        return sorted(path.name for path in self.folder.iterdir())

    def cut(self) -> None:
        """Kill every connection, as a network that goes away does, but not the server."""
        for child in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "sshd" in child.name():
                    child.kill()

    def with_config(self, path: Path, **changes: str) -> Path:
        """A client's configuration like ours, with other values."""
        lines = self.config.read_text().splitlines()
        kept = [line for line in lines if line.split()[0] not in changes]
        path.write_text("\n".join([*kept, *(f"{key} {value}" for key, value in changes.items())]) + "\n")
        return path


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Start it; skips the test where there is no sshd."""
    if not Path(SSHD).is_file() or shutil.which("ssh") is None:
        pytest.skip("there is no sshd here: apt-get install openssh-server openssh-client")
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    if os.geteuid() == 0:  # where sshd gives up its rights
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (home / "device").mkdir()
    (home / "authorized").write_text((home / "user.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home / 'host'}\nAuthorizedKeysFile {home / 'authorized'}\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile {home / 'pid'}\nPermitRootLogin yes\n"
    )
    kind, key, *_ = (home / "host.pub").read_text().split()
    (home / "known_hosts").write_text(f"device-key {kind} {key}\n")
    (home / "ssh_config").write_text(
        f"Hostname 127.0.0.1\nHostKeyAlias device-key\nUserKnownHostsFile {home / 'known_hosts'}\n"
        f"IdentityFile {home / 'user'}\nIdentitiesOnly yes\nStrictHostKeyChecking yes\nGlobalKnownHostsFile none\n"
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(home / "sshd_config")], stderr=log)
    try:
        _wait_until_it_listens(port, process, home / "log")
        yield Server(port, home / "ssh_config", home, home / "device", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    pytest.skip(f"sshd does not start here: {log.read_text()[-300:]}")
