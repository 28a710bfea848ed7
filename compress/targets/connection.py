"""A connection to a device: one process (ssh, adb) whose far end is `compress.targets.far_end`, for a whole run.

Every request goes through it, so that a round costs no handshake; when it closes the device removes what it was sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 9)
CHUNK_BYTES = 2**18
ABORTED = 2**32 - 1
HELLO_SECONDS = 60.0
GOODBYE_SECONDS = 10.0
MARK = "compress-python"
HERE = Path(__file__).parent
FAR_END = (
    "measuring.system", "measuring.machine", "measuring.conditions", "measuring.nvidia",
    "far_end.channel", "far_end.folder", "far_end.facts", "far_end.files", "far_end.processes", "far_end.serve",
)  # fmt: skip
"""The modules of the far end, each behind those that it imports."""


class LostError(Exception):
    """The connection is gone; `said` is what the process had to say of it, `status` what it ended with."""

    def __init__(self, said: str, status: int | None) -> None:
        super().__init__(said)
        self.said, self.status = said, status


class NotStartedError(Exception):
    """There is no Python at the far end (`version` is empty), or one that is too old."""

    def __init__(self, said: str, status: int | None, version: str = "") -> None:
        super().__init__(said)
        self.said, self.status, self.version = said, status, version


class DeviceError(Exception):
    """The device could not do what was asked: its `kind`, and what more it told."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(str(told["message"]))
        self.kind, self.told = str(told["kind"]), told


def device_program(hello: Mapping[str, Any]) -> bytes:
    """What the far end runs: its modules, under their own names, and then the last one's `serve`, greeted with `hello`.

    Nothing may be sent behind it before it answers: the Python there reads ahead.
    """
    sources = {
        f"compress.targets.{name}": (HERE / f"{name.replace('.', '/')}.py").read_text("utf-8") for name in FAR_END
    }
    return (
        "import sys, types\n"
        "sys.path[:] = [path for path in sys.path if path]\n"  # else the home folder's modules would be found first
        f"for name, source in {sources!a}.items():\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(source, name, 'exec'), sys.modules[name].__dict__)\n"
        f"sys.exit(sys.modules[name].serve({dict(hello)!r}))\n"
    ).encode("ascii")


def remote_command(python: str, size: int) -> str:
    """What the device's shell is to run: say the kernel's and Python's versions, then the `size` bytes that follow.

    It is one line that sh, bash, fish and csh read alike, and that Python 2 understands far enough to be refused.
    """
    code = (
        "import sys;v=sys.version_info;"
        f'sys.stdout.write("{MARK} %d.%d.%d\\n"%v[:3]);sys.stdout.flush();'
        f"v>={OLDEST_PYTHON!r} and exec(sys.stdin.buffer.read({size}))"
    )
    return f"uname -m; {python} -c '{code}'"


class Connection:
    """An open connection: `facts` is what the device told of itself, `kernel` what its kernel says it is."""

    def __init__(self, command: Callable[[str], Sequence[str]], python: str, hello: Mapping[str, Any]) -> None:
        """Start the process that `command` makes of a line for the device's shell, and greet.

        Raises:
            LostError: the process ended before it said anything.
            NotStartedError: there is no Python at its end that will do.
            DeviceError: no folder can be made there.
        """
        program = device_program(hello)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed by `drop`
        self._process = subprocess.Popen(
            command(remote_command(python, len(program))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # Ctrl-C reaches us alone, who then say good-bye
        )
        timer = threading.Timer(HELLO_SECONDS, self._process.kill)
        timer.start()
        try:
            self.kernel = self._python_is_there()
            self._write(program)
            told = self._answer()
        except BaseException:
            self.drop()
            raise
        finally:
            timer.cancel()
        self.facts: dict[str, Any] = told["facts"]
        self.folder: str = told["folder"]
        self.have: set[str] = set(told["have"])

    def _python_is_there(self) -> str:
        """Read up to Python's version, past whatever the device's shell greets with; the kernel's machine."""
        kernel = ""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            text = line.decode("utf-8", "replace").strip()
            found = re.fullmatch(MARK + r" (\d+)\.(\d+)\.(\d+)", text)
            if found is None:
                kernel = text
            elif (int(found[1]), int(found[2])) < OLDEST_PYTHON:
                raise NotStartedError(self._words(), None, text.split()[1])
            else:
                return kernel
        status = self._process.wait()
        if status == 255 or status < 0 or not kernel:  # ssh's own
            raise LostError(self._words(), status)
        raise NotStartedError(self._words(), status)

    def ask(self, request: Mapping[str, Any], told: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
        """Send one request and wait for its answer; `told` gets what is said before. Raises LostError, DeviceError."""
        self._say(request)
        while "said" in (answer := self._answer()):
            told(answer["said"])
        return answer

    def push(self, path: Path, name: str, sha256: str, advance: Callable[[int], object]) -> None:
        """Have the device keep a file as `name`; `advance` is told the bytes sent. Raises LostError, DeviceError."""
        self.ask({"do": "push", "path": name, "size": path.stat().st_size, "sha256": sha256})
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    self._write(struct.pack(">I", len(chunk)) + chunk)
                    advance(len(chunk))
        except BaseException as error:
            if not isinstance(error, LostError):
                self._write(struct.pack(">I", ABORTED))
            raise
        self._write(struct.pack(">I", 0))
        self._answer()
        self.have.add(name)

    def fetch(self, name: str, path: Path) -> None:
        """Write the device's file `name` into `path`, as it is there. Raises LostError, DeviceError."""
        self.ask({"do": "fetch", "path": name})
        digest = hashlib.sha256()
        with path.open("wb") as stream:
            while size := struct.unpack(">I", self._read(4))[0]:
                chunk = self._read(size)
                digest.update(chunk)
                stream.write(chunk)
        if self._answer()["sha256"] != digest.hexdigest():
            raise DeviceError({"kind": "file", "message": f"{path.name} did not arrive as it was sent"})

    def close(self) -> None:
        """Say good-bye, upon which the device removes what it was sent, and wait for it."""
        with contextlib.suppress(LostError, OSError):
            self._say({"do": "bye"})
        self._hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GOODBYE_SECONDS)
        self.drop()

    def drop(self) -> None:
        """End the process, without a word to the device."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._hang_up()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()

    def _hang_up(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _say(self, request: Mapping[str, Any]) -> None:
        self._write(json.dumps(request).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        """All of `data`, even if it is interrupted, so that what follows is understood."""
        assert self._process.stdin is not None
        view, interrupted = memoryview(data), None
        while view:
            try:
                view = view[os.write(self._process.stdin.fileno(), view) :]
            except KeyboardInterrupt as error:
                if interrupted is not None:  # twice: it is meant
                    raise
                interrupted = error
            except OSError:
                raise self._lost() from None
        if interrupted is not None:
            raise interrupted

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        found = self._process.stdout.read(count)
        if len(found) < count:
            raise self._lost()
        return found

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._lost()
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise DeviceError(told["error"])
        return told

    def _lost(self) -> LostError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GOODBYE_SECONDS)
        return LostError(self._words(), self._process.poll())

    def _words(self) -> str:
        """What the process said on standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace")
