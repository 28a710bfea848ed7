"""The far end of a connection to a device: keeps files in a folder of its own, runs programs there, leaves it clean.

It is sent over the connection and run by the device's own Python (>= 3.9, standard library alone), behind `measure.py`,
which it calls for what the machine is. Requests come on standard input, one JSON object a line; answers go the same way
on standard output. Files follow as chunks, each after its length in four bytes; none ends them, `ABORTED` gives up.

When the connection closes without `bye`, what runs is ended, and the files are kept for `grace_seconds`, in which a
new connection of the same run may take them over; then they are removed. What a killed run has left is removed by the
next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import runpy
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure  # type: ignore[import-not-found]

PREFIX, LOCK = "compress-", ".lock"
CHUNK_BYTES = 2**18
PROGRESS, PROGRESS_SECONDS = b"progress ", 0.3
"""How a program's lines begin that are passed on while it runs, and how often that is done."""
ABORTED = 2**32 - 1
SPARE_BYTES = 2**20
"""Space that is left free on the device's disk."""
FULL_BYTES = 2**16
"""Of a disk with less free than this a program that failed has failed for that."""
TAKEOVER_SECONDS = 10.0
RUNTIMES = ("onnxruntime-gpu", "onnxruntime", "onnxruntime-qnn", "onnxruntime-openvino")


class ClosedError(Exception):
    """The other end is gone."""


class RefusedError(Exception):
    """What was asked cannot be done; `kind` is `disk`, `folder`, `file` or `ended`."""

    def __init__(self, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.told = {"kind": kind, "message": message, **more}


class Channel:
    """Lines and chunks on standard input and output; whatever else prints goes to standard error."""

    def __init__(self) -> None:
        self.output = os.dup(1)
        os.dup2(2, 1)
        self.waiting = b""

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        while len(self.waiting) < count:
            self.waiting += self.more(max(65536, count - len(self.waiting)))
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken

    def more(self, count: int) -> bytes:
        """What is there, at most `count` bytes. Raises ClosedError if there will be no more."""
        found = os.read(0, count)
        if not found:
            raise ClosedError
        return found

    def request(self) -> dict[str, Any]:
        """The next request."""
        while b"\n" not in self.waiting:
            self.waiting += self.more(65536)
        line, _, self.waiting = self.waiting.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def chunks(self) -> Iterator[bytes]:
        """A file's chunks; ClosedError is raised if it is given up."""
        while True:
            (size,) = struct.unpack(">I", self.take(4))
            if size == ABORTED:
                raise RefusedError("file", "it was given up")
            if size == 0:
                return
            yield self.take(size)

    def write(self, data: bytes) -> None:
        """All of `data`. Raises ClosedError if nobody reads it."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.output, view) :]
            except OSError:
                raise ClosedError from None

    def answer(self, content: dict[str, Any]) -> None:
        """One answer."""
        self.write(json.dumps(content).encode() + b"\n")


# The folder


def open_folder(base: Path, run: str) -> tuple[Path, int]:
    """This run's folder in `base`, locked by this process; folders of dead runs are removed. (folder, lock)."""
    for other in base.glob(PREFIX + "*"):
        if other.name != PREFIX + run and re.fullmatch(PREFIX + "[0-9a-f]{16}", other.name):
            _remove_if_left(other)
    folder = base / (PREFIX + run)
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + TAKEOVER_SECONDS
    while not _locked(lock):  # an earlier connection of this run that has not noticed its end
        pid = os.pread(lock, 32, 0)
        if pid.isdigit():
            os.kill(int(pid), signal.SIGTERM if time.monotonic() < end - TAKEOVER_SECONDS / 2 else signal.SIGKILL)
        if time.monotonic() > end:
            raise RefusedError("folder", f"another process holds {folder}")
        time.sleep(0.05)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return folder, lock


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a run that no process holds any more."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        if time.time() - folder.stat().st_mtime > 60:  # made by a run that was killed right then
            shutil.rmtree(str(folder), ignore_errors=True)
        return
    except OSError:
        return  # somebody else's
    if _locked(lock):
        shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def base_folder(wanted: str | None) -> Path:
    """Where the folder is made: as asked, else on disk in /var/tmp, else in the temporary folder."""
    if wanted is not None:
        path = Path(wanted).expanduser()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RefusedError("folder", f"{path} cannot be made: {error.strerror}") from error
        return path
    for name in ("/var/tmp", tempfile.gettempdir()):
        if os.access(name, os.W_OK):
            return Path(name)
    raise RefusedError("folder", "no temporary folder can be written to")


# What is asked


def facts(folder: Path) -> dict[str, Any]:
    """What is cheap to tell: processor, versions (found without imports), cores, free disk, conditions."""
    machine = measure.machine()
    cpuinfo = measure._read("/proc/cpuinfo")
    return {
        "machine": machine,
        "conditions": measure.conditions(),
        "usable_cores": measure.available_cores(),
        "versions": {"python": platform.python_version(), "numpy": _version("numpy"), "onnxruntime": runtime()},
        "free_bytes": shutil.disk_usage(str(folder)).free,
        "emulated": machine["architecture"].startswith(("aarch64", "arm")) and "vendor_id" in cpuinfo,
    }


def _version(name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def runtime() -> str | None:
    """ONNX Runtime as `distribution version`; None if it cannot be imported."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    for name in RUNTIMES:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "onnxruntime unknown"


def push(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Keep one file under `path`, whole or not at all; its size and sha256 must be those that were told."""
    path, size = folder / asked["path"], asked["size"]
    free = shutil.disk_usage(str(folder)).free
    if free < size + SPARE_BYTES:
        raise RefusedError("disk", f"{free / 1e6:.1f} MB are free where {size / 1e6:.1f} MB are needed")
    channel.answer({"ok": True})
    digest, received, trouble = hashlib.sha256(), 0, None
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            for chunk in channel.chunks():
                digest.update(chunk)
                received += len(chunk)
                if trouble is None:
                    try:
                        stream.write(chunk)
                        stream.flush()
                    except OSError as error:  # the rest of the file must still be taken from the connection
                        trouble = error
        if trouble is not None:
            raise trouble
        if (received, digest.hexdigest()) != (size, asked["sha256"]):
            raise RefusedError("file", f"{path.name} did not arrive as it was sent")
        part.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RefusedError("disk", f"no space is left for {path.name} ({size / 1e6:.1f} MB)") from error
        raise
    finally:
        if part.exists():
            part.unlink()
    return {}


def fetch(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Send one file, with its sha256 at the end."""
    path = folder / asked["path"]
    if not path.is_file():
        raise RefusedError("file", f"{path.name} was not written")
    channel.answer({"ok": True, "size": path.stat().st_size})
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            channel.write(struct.pack(">I", len(chunk)) + chunk)
    channel.write(struct.pack(">I", 0))
    return {"sha256": digest.hexdigest()}


def forget(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Remove files that are no longer needed."""
    for name in asked["paths"]:
        if (folder / name).exists():
            (folder / name).unlink()
    return {}


def run(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a kept program on a request in a process of its own, to its end; its result is the answer."""
    work = Path(tempfile.mkdtemp(dir=str(folder), prefix="work-"))
    (folder / "outputs").mkdir(exist_ok=True)
    try:
        content, given = work / "request.json", work / "result.json"
        told = json.dumps(asked["request"]).replace(asked["root"], json.dumps(str(folder))[1:-1])
        content.write_text(told, encoding="utf-8")
        status, said = _ended(channel, folder / asked["program"], [str(content), str(given)], work, asked["variables"])
        if status != 0 and shutil.disk_usage(str(folder)).free < FULL_BYTES:
            raise RefusedError("disk", "nothing is left of it while the program runs")
        if status != 0 or not given.is_file():
            raise RefusedError("ended", "the program ended before its time", status=status, said=said[-4000:])
        outputs = sorted(path.name for path in (folder / "outputs").iterdir())
        return {"result": json.loads(given.read_text(encoding="utf-8")), "outputs": outputs}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RefusedError("disk", "no space is left on the device") from error
        raise
    finally:
        shutil.rmtree(str(work), ignore_errors=True)


def _ended(
    channel: Channel, program: Path, arguments: list[str], work: Path, variables: dict[str, str]
) -> tuple[int, str]:
    """(exit status, what it said) of the program; it is ended when the connection closes or asks for something else."""
    kept, end = os.pipe()  # the program's standard input: open as long as this process lives
    woken, wake = os.pipe()
    with (work / "said").open("w+b") as said:
        pid = _start(program, arguments, kept, said.fileno(), {**os.environ, **variables, "TMPDIR": str(work)})
        os.close(kept)
        status: list[int] = []
        passed = [0]

        def wait() -> None:
            status.append(os.waitpid(pid, 0)[1])
            os.close(wake)

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        lost = False
        try:
            while not channel.waiting and not select.select([0, woken], [], [], PROGRESS_SECONDS)[0]:
                _pass_on(channel, work / "said", passed)
        except ClosedError:
            lost = True
        if not status and (lost or select.select([0], [], [], 0)[0]):
            os.kill(pid, signal.SIGKILL)
        waiter.join()
        os.close(woken)
        os.close(end)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
        _pass_on(channel, work / "said", passed)
    code = status[0]
    return (-os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)), text


def _pass_on(channel: Channel, said: Path, passed: list[int]) -> None:
    """Tell of the lines about progress that the program has written behind the first `passed[0]` bytes."""
    with said.open("rb") as stream:
        stream.seek(passed[0])
        whole, newline, _ = stream.read().rpartition(b"\n")
    passed[0] += len(whole) + len(newline)
    for line in whole.split(b"\n"):
        if line.startswith(PROGRESS):
            channel.answer({"said": line.decode("utf-8", "replace")})


def _start(program: Path, arguments: list[str], stdin: int, stderr: int, variables: dict[str, str]) -> int:
    """Start a program with this Python, or in a copy of this process where a new one cannot run it (an emulator)."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    command = [sys.executable, *flags, str(program), *arguments]
    try:
        process = subprocess.Popen(command, stdin=stdin, stdout=stderr, stderr=stderr, env=variables)
    except OSError as error:
        if error.errno not in (errno.ENOEXEC, errno.ENOENT, errno.EACCES):
            raise
    else:
        process.returncode = 0  # it is waited for by its number
        return process.pid
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(stdin, 0)
        os.dup2(stderr, 1)
        os.dup2(stderr, 2)
        os.closerange(3, 1024)  # its standard input must close with the parent alone
        os.environ.update(variables)
        sys.argv = [str(program), *arguments]
        runpy.run_path(str(program), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)
    return 0


VERBS = {"push": push, "fetch": fetch, "forget": forget, "run": run}


def serve(hello: dict[str, Any]) -> int:
    """Answer requests until `bye` or the end of the connection. `hello` holds `run`, `folder` and `grace_seconds`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel = Channel()
    try:
        folder, _ = open_folder(base_folder(hello["folder"]), hello["run"])
    except RefusedError as error:
        channel.answer({"error": error.told})
        return 1
    except OSError as error:
        kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "folder"
        channel.answer({"error": {"kind": kind, "message": f"{error.filename}: {error.strerror}"}})
        return 1
    have = [str(path.relative_to(folder)) for path in folder.glob("files/*/*") if path.suffix != ".part"]
    grace = float(hello["grace_seconds"])
    try:
        channel.answer({"ok": True, "folder": str(folder), "have": have, "facts": facts(folder)})
        while True:
            asked = channel.request()
            if asked["do"] == "bye":
                grace = 0.0
                break
            try:
                channel.answer({"ok": True, **VERBS[asked["do"]](channel, folder, asked)})
            except RefusedError as error:
                channel.answer({"error": error.told})
    except ClosedError:
        time.sleep(grace)
    shutil.rmtree(str(folder), ignore_errors=True)
    if grace == 0.0:
        with contextlib.suppress(ClosedError):
            channel.answer({"ok": True})
    return 0
