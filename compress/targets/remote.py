"""Programs on a device over a connection: files are sent once by digest, paths rewritten, a lost connection retried."""

from __future__ import annotations

import atexit
import functools
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from compress.errors import CompressError, StageError
from compress.stage import Progress, Silent
from compress.targets import adb, failures, ssh
from compress.targets.connection import OLDEST_PYTHON, Connection, DeviceError, LostError, NotStartedError
from compress.targets.execution import Execution, Together
from compress.targets.facts import Facts
from compress.targets.settings import TargetSettings

WAITS = (1.0, 3.0, 9.0)
"""Seconds before each new try of a lost connection."""
GRACE_SECONDS = 60.0
"""How long a device keeps files for a new connection once one was lost."""
ROOT = "{the device's folder}"
"""Stands in requests for the folder that the device has made."""
SHOWN_BYTES = 2**20
"""From this size on what is sent is shown."""
Result = TypeVar("Result")
_RUN = secrets.token_hex(8)
_open: dict[tuple[str, ...], Connection] = {}


def address(target: TargetSettings) -> tuple[str, ...]:
    """What tells one device, and one Python on it, from another."""
    return (
        target.kind,
        target.host or target.serial or "",
        target.python,
        str(target.ssh_config or ""),
        target.folder or "",
        target.perf_test or "",
    )


def facts(target: TargetSettings) -> Facts:
    """What the device tells of itself; the connection stays open.

    Raises:
        UnreachableError: It is away.
        UsageError: It refuses us, or has no Python that will do.
    """
    return _retried(target, lambda connection: _facts(target, connection), ())


def run_program(target: TargetSettings, execution: Execution) -> dict[str, Any]:
    """Run a program on the device; see `compress.targets.kinds.run_program`."""
    return _retried(target, lambda connection: _run(connection, target, execution), WAITS, execution.progress)


def close_all() -> None:
    """Close every connection; the devices remove what they were sent."""
    while _open:
        _open.popitem()[1].close()


atexit.register(close_all)


def _retried(
    target: TargetSettings,
    work: Callable[[Connection], Result],
    waits: Sequence[float],
    progress: Progress | None = None,
) -> Result:
    """What `work` gives with an open connection; with a new one, after a while, if it is lost."""
    for number, wait in enumerate((*waits, None)):
        try:
            return work(_connected(target))
        except LostError as error:
            if (dead := _open.pop(address(target), None)) is not None:
                dead.drop()
            away = _unreachable(target, error)
            if wait is None or not isinstance(away, failures.UnreachableError):
                raise away from None
            if progress is not None:
                progress.say(f"the connection to {target.name} is lost; try {number + 2} in {wait:.0f} s")
            time.sleep(wait)
        except DeviceError as error:
            raise _device_failure(target, error) from None
        except CompressError:
            raise
        except BaseException:  # an answer may be under way, which nobody must take for that of the next request
            if (open_ := _open.pop(address(target), None)) is not None:
                open_.close()
            raise
    raise AssertionError("the last try either returns or raises")


def _connected(target: TargetSettings) -> Connection:
    """The open connection to a device, or a new one."""
    key = address(target)
    if key not in _open:
        over_ssh = target.kind == "ssh"
        command = ssh.command_for(target) if over_ssh else adb.command_for(target)
        python = target.python if over_ssh else adb.python_for(target)
        folder = target.folder or (None if over_ssh else adb.FOLDER)
        hello = {"run": _RUN, "folder": folder, "grace_seconds": GRACE_SECONDS}
        try:
            _open[key] = Connection(command, python, hello)
        except NotStartedError as error:
            if error.version:
                raise failures.old_python(target.name, target.python, error.version, OLDEST_PYTHON) from None
            raise failures.no_python(target.name, target.python, error.said, error.status) from None
    return _open[key]


def _unreachable(target: TargetSettings, error: LostError) -> Exception:
    if target.kind == "ssh":
        return failures.refused(target.name, ssh.where(target), error.said)
    return adb.refused(target, error.said)


def _device_failure(target: TargetSettings, error: DeviceError) -> Exception:
    if error.kind == "disk":
        return failures.no_space(target.name, str(error), target.folder)
    if error.kind == "ended":
        return failures.ended(int(error.told["status"]), str(error.told["said"]))
    return StageError(f"target '{target.name}': {error}")


def _facts(target: TargetSettings, connection: Connection) -> Facts:
    told = connection.facts
    architecture = told["machine"]["architecture"]
    other = {architecture, connection.kernel} in ({"x86_64", "aarch64"}, {"x86_64", "armv7l"})
    return Facts(
        machine=told["machine"],
        versions=told["versions"],
        usable_cores=tuple(told["usable_cores"]),
        gpu=told["gpu"],
        emulated=target.emulated or bool(told["emulated"]) or other,
        free_bytes=told["free_bytes"],
        conditions=told["conditions"],
    )


def _run(connection: Connection, target: TargetSettings, execution: Execution) -> dict[str, Any]:
    """Send what is not there yet, run, fetch what was written."""
    sent = {path: name for group in execution.groups for path, name in _names(group).items()}
    _push(connection, target, sent, execution.progress)
    written = {path: f"outputs/{number}-{path.name}" for number, path in enumerate(execution.outputs)}
    there = {str(path): f"{ROOT}/{name}" for path, name in (sent | written).items()}
    variables = {"OMP_NUM_THREADS": str(target.threads), "OPENBLAS_NUM_THREADS": "1"}
    asked: dict[str, Any] = {"do": "run", "program": sent[execution.program], "variables": variables, "root": ROOT}
    asked |= {"request": _rewritten(execution.request, there), "progress": execution.told is not None}
    answer = connection.ask(asked, execution.told or (lambda line: None))
    for path, name in written.items():
        if name.rpartition("/")[2] in answer["outputs"]:  # a program that fails says why, and writes nothing
            connection.fetch(name, path)
    if written:
        connection.ask({"do": "forget", "paths": list(written.values())})
    result: dict[str, Any] = answer["result"]
    return result


def _names(group: Together) -> dict[Path, str]:
    """What files are called on the device: in a folder named by their digests, placed there as beside the first."""
    digests = [_sha256(path, path.stat().st_size, path.stat().st_mtime_ns) for path in group]
    home = digests[0] if len(group) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {path: f"files/{home[:32]}/{path.relative_to(group[0].parent).as_posix()}" for path in group}


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _push(connection: Connection, target: TargetSettings, names: Mapping[Path, str], progress: Progress) -> None:
    """Send those files that the device does not have."""
    missing = {path: name for path, name in names.items() if name not in connection.have}
    total = sum(path.stat().st_size for path in missing)
    if total < SHOWN_BYTES:
        progress = Silent()
    if not missing:
        return
    with progress.task(f"sending {total / 1e6:.1f} MB to {target.name}", total) as advance:
        for path, name in missing.items():
            digest = _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)
            connection.push(path, name, digest, advance)


def _rewritten(value: Any, there: Mapping[str, str]) -> Any:
    """A request with the device's paths in place of ours."""
    if isinstance(value, Mapping):
        return {key: _rewritten(item, there) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rewritten(item, there) for item in value]
    return there.get(value, value) if isinstance(value, str) else value
