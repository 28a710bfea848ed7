"""The local target: the measuring program in a fresh process on this machine, pinned, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.errors import StageError
from compress.targets import measure
from compress.targets.settings import TargetSettings


def cores_for(target: TargetSettings) -> list[int]:
    """The cores to pin to: those of the target, else the last ones that may be used (interrupts prefer the first)."""
    return sorted(target.cores) if target.cores is not None else measure.available_cores()[-target.threads :]


def run_here(target: TargetSettings, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Run the measuring program once and return its result. Raises StageError if its process ends before its time."""
    request = {
        "provider": target.execution_provider,
        "threads": target.threads,
        "cores": cores_for(target),
        "stop_with_stdin": True,
        "jobs": list(jobs),
    }
    with tempfile.TemporaryDirectory(prefix="compress-measure-") as folder:
        asked, given = Path(folder) / "request.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        _run([sys.executable, "-P", measure.__file__, str(asked), str(given)], target.threads)
        result: dict[str, Any] = json.loads(given.read_text(encoding="utf-8"))
    return result


def _run(command: Sequence[str], threads: int) -> None:
    """Run a command to its end. It is in a session of its own, so that Ctrl-C reaches us alone, who then end it.

    Its standard input is a pipe that nobody writes to: it closes when this process is gone, however that came about,
    which ends the measuring program too.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
        try:
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if status != 0:
            said.seek(0)
            raise StageError(_why(status, said.read().decode(errors="replace")))


def _why(status: int, stderr: str) -> str:
    """The measuring process's end in words."""
    last = stderr.strip().splitlines()[-1:] or ["it said nothing"]
    if status == -signal.SIGKILL:
        return "the measuring process was killed; most often that means too little memory for this model and batch size"
    if status < 0:
        return f"the measuring process crashed ({signal.Signals(-status).name}): {last[0]}"
    return f"the measuring process failed with status {status}: {last[0]}"
