"""The folder of one run on the device, and what runs that were killed have left of theirs."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

from compress.targets.far_end.channel import RefusedError

PREFIX, LOCK = "compress-", ".lock"
TAKEOVER_SECONDS = 10.0


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
