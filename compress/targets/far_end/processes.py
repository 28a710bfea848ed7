"""Programs that run on the device, each in a process of its own, ended with the connection."""

from __future__ import annotations

import errno
import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from compress.targets.far_end.channel import Channel, ClosedError, RefusedError

PROGRESS, PROGRESS_SECONDS = b"progress ", 0.3
"""How a program's lines begin that are passed on while it runs, and how often that is done where somebody listens."""
FULL_BYTES = 2**16
"""Of a disk with less free than this a program that failed has failed for that."""


def run(channel: Channel, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a kept program on a request in a process of its own, to its end; its result is the answer."""
    work = Path(tempfile.mkdtemp(dir=str(folder), prefix="work-"))
    (folder / "outputs").mkdir(exist_ok=True)
    try:
        content, given = work / "request.json", work / "result.json"
        told = json.dumps(asked["request"]).replace(asked["root"], json.dumps(str(folder))[1:-1])
        content.write_text(told, encoding="utf-8")
        variables = {**os.environ, **asked["variables"], "TMPDIR": str(work)}
        with (work / "said").open("w+b") as stream:
            kept, end = os.pipe()  # the program's standard input: open as long as this process lives
            pid = _start(folder / asked["program"], [str(content), str(given)], kept, stream.fileno(), variables)
            os.close(kept)
            status = _ended(channel, pid, Said(channel, work / "said") if asked["progress"] else None)
            os.close(end)
        said = (work / "said").read_text(encoding="utf-8", errors="replace")
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


class Said:
    """What a program has said in a file, of which the lines about progress are passed on."""

    def __init__(self, channel: Channel, path: Path) -> None:
        self.channel, self.path, self.passed_bytes = channel, path, 0

    def pass_on(self) -> None:
        """Tell of the lines about progress that have come since the last time."""
        with self.path.open("rb") as stream:
            stream.seek(self.passed_bytes)
            whole, newline, _ = stream.read().rpartition(b"\n")
        self.passed_bytes += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            if line.startswith(PROGRESS):
                self.channel.answer({"said": line.decode("utf-8", "replace")})


def _ended(channel: Channel, pid: int, said: Said | None) -> int:
    """The exit status of a process; it is ended when the connection closes or asks for something else.

    Nothing wakes this process meanwhile, which would disturb what is measured there, unless progress is passed on.
    """
    woken, wake = os.pipe()
    status: list[int] = []

    def wait() -> None:
        status.append(os.waitpid(pid, 0)[1])
        os.close(wake)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    lost, pause = False, None if said is None else PROGRESS_SECONDS
    try:
        while not channel.waiting and not select.select([0, woken], [], [], pause)[0]:
            if said is not None:
                said.pass_on()
    except ClosedError:
        lost = True
    if not status and (lost or select.select([0], [], [], 0)[0]):
        os.kill(pid, signal.SIGKILL)
    waiter.join()
    os.close(woken)
    if said is not None:
        said.pass_on()
    return -os.WTERMSIG(status[0]) if os.WIFSIGNALED(status[0]) else os.WEXITSTATUS(status[0])


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
        for name in [name for name in sys.modules if name.partition(".")[0] == "compress"]:
            del sys.modules[name]  # the far end's own, which a program brings anew, and whole
        runpy.run_path(str(program), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)
    return 0
