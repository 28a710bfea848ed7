"""kill -9 while a teacher writes, in real processes; the same work then ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.bundle import Bundle
from compress.generation.draft import DRAFT_FILE
from compress.generation.stage import Generate
from compress.stage import Context
from tests.generation.helpers import ChatServer, built, context_of, question_settings

SCRIPT = """
import sys, time
from pathlib import Path
from compress.bundle import Bundle, Kind
from compress.generation import draft
from compress.generation.stage import Generate
from tests.generation.helpers import context_of, question_settings
import json

folder, out, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
append = draft.Draft.append
def slowly(self, entries):
    append(self, entries)
    time.sleep(pause)
draft.Draft.append = slowly
stage = Generate.model_validate(json.loads(sys.argv[4]))
inputs = {"source": Bundle(Kind.TORCH, folder / "teacher", digest="teacher")} if stage.references() else {}
stage.run(inputs, out, context_of(question_settings(folder), checkpoints=folder / "draft"))
"""


def start(folder: Path, out: Path, stage: dict[str, Any], pause: float) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out), str(pause), json.dumps(stage)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    limit = time.monotonic() + 300
    while not ready() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def drafted(folder: Path) -> int:
    file = folder / "draft" / DRAFT_FILE
    return file.read_bytes().count(b"\n") - 1 if file.is_file() else -1


def run_here(stage: dict[str, Any], inputs: dict[str, Bundle], out: Path, context: Context) -> bytes:
    out.mkdir(exist_ok=True)
    Generate.model_validate(stage).run(inputs, out, context)
    return (out / "responses.jsonl").read_bytes()


def test_a_network_that_is_killed_goes_on_and_writes_the_same_bytes(tmp_path: Path) -> None:
    settings = question_settings(tmp_path)
    inputs = {"source": built(tmp_path, context_of(settings))}
    stage = {"decode": "sample", "samples": 2, "temperature": 3.0, "max_new_tokens": 6, "batch_size": 5}
    kill_when(start(tmp_path, tmp_path / "out", stage, 0.3), lambda: drafted(tmp_path) >= 10)
    left = drafted(tmp_path)
    assert 10 <= left < 48
    torn = tmp_path / "draft" / DRAFT_FILE
    torn.write_bytes(torn.read_bytes()[:-9])
    before = torn.read_bytes()
    found = run_here(stage, inputs, tmp_path / "out", context_of(settings, checkpoints=tmp_path / "draft"))
    assert found == run_here(stage, inputs, tmp_path / "undisturbed", context_of(settings))
    assert found.count(b"\n") == 48
    assert torn.read_bytes().startswith(before[: before.rfind(b"\n") + 1])


def test_a_server_is_not_asked_again_for_what_a_killed_process_has_received(tmp_path: Path) -> None:
    settings = question_settings(tmp_path)
    context = context_of(settings, checkpoints=tmp_path / "draft")
    with ChatServer() as server:
        stage = {"address": server.address, "served_model": "m", "max_new_tokens": 8, "batch_size": 3}
        kill_when(start(tmp_path, tmp_path / "out", stage, 0.1), lambda: drafted(tmp_path) >= 7)
        kept, before = drafted(tmp_path), len(server.seen)
        assert 7 <= kept < 24
        found = run_here(stage, {}, tmp_path / "out", context)
        assert len(server.seen) - before == 24 - kept
        assert found == run_here(stage, {}, tmp_path / "undisturbed", context_of(settings))
