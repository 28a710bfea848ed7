from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from compress.errors import BUG
from compress.training import worker
from compress.training.launch import STOP_FILE
from compress.training.worker import _born_at


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses that threads wanted to end the process with."""
    found: list[int] = []

    def end(status: int) -> None:
        found.append(status)
        (tmp_path / STOP_FILE).touch()  # the thread alone ends

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(worker, "_WATCH_SECONDS", 0.02)
    monkeypatch.setenv("RANK", "1")
    return found


def test_a_parent_is_known_by_its_birth_give_or_take_seconds() -> None:
    born = psutil.Process().create_time()
    for off in (0.0, 3.0, -3.0):  # the clock was set between the two looks at it
        found = _born_at(os.getpid(), born + off)
        assert found is not None
        assert found.is_running()
    assert _born_at(os.getpid(), born - 3600) is None, "the number is another process's by now"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert _born_at(gone.pid, time.time()) is None


def test_a_clock_that_is_set_ends_no_worker(ended: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    born = psutil.Process().create_time()
    worker._watch(tmp_path, os.getpid(), born + 2)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: born + 3600)
    time.sleep(0.2)
    (tmp_path / STOP_FILE).touch()
    time.sleep(0.1)
    assert ended == []


def test_a_worker_ends_with_its_parent(ended: list[int], tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        worker._watch(tmp_path, parent.pid, psutil.Process(parent.pid).create_time())
        time.sleep(0.1)
        assert ended == []
    for _ in range(100):
        if ended:
            break
        time.sleep(0.02)
    assert ended == [BUG]
