"""The user's own OpenSSH: its configuration, keys, agent and known hosts are used as they are, and nothing is asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from compress.errors import UsageError
from compress.targets.settings import TargetSettings

CONNECT_SECONDS = 10
OPTIONS = (
    "BatchMode=yes",
    f"ConnectTimeout={CONNECT_SECONDS}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "EscapeChar=none",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
)
"""What is ours: nothing is asked, a dead connection is noticed within 15 seconds, and ours is the command that runs."""


def where(target: TargetSettings) -> str:
    """`user@host`, for messages and for ssh."""
    return split(target.host or "")[0]


def split(host: str) -> tuple[str, str | None]:
    """(`user@host`, port) of `[ssh://]user@host[:port]`; an IPv6 address with a port stands in brackets."""
    text = host.removeprefix("ssh://").rstrip("/")
    user, at, rest = text.rpartition("@")
    if rest.startswith("["):
        name, _, port = rest[1:].partition("]")
        return f"{user}{at}{name}", port.removeprefix(":") or None
    name, colon, port = rest.rpartition(":")
    if colon and ":" not in name:
        return f"{user}{at}{name}", port
    return text, None


def command_for(target: TargetSettings) -> Callable[[str], Sequence[str]]:
    """What runs a line in the shell of a target.

    Raises:
        UsageError: There is no ssh on this machine.
    """
    program = shutil.which("ssh")
    if program is None:
        raise UsageError(f"target '{target.name}': there is no `ssh` on this machine; install the OpenSSH client")
    address, port = split(target.host or "")
    options = [part for option in OPTIONS for part in ("-o", option)]
    if target.ssh_config is not None:
        options += ["-F", str(target.ssh_config)]
    if port is not None:
        options += ["-p", port]

    def command(line: str) -> Sequence[str]:
        return [program, "-T", *options, "--", address, line]

    return command
