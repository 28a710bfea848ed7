"""The local target: a program in a fresh process on this machine, and never left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compress.targets import failures
from compress.targets.execution import Execution
from compress.targets.facts import Facts, local_facts
from compress.targets.settings import TargetSettings


def facts(target: TargetSettings) -> Facts:
    """What this machine is."""
    return local_facts()


def run_program(target: TargetSettings, execution: Execution) -> dict[str, Any]:
    """Run a program here, where all its files are; see `compress.targets.kinds.run_program`."""
    with tempfile.TemporaryDirectory(prefix="compress-measure-") as folder:
        asked, given = Path(folder) / "request.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(execution.request), encoding="utf-8")
        command = [sys.executable, "-P", str(execution.program), str(asked), str(given)]
        _run(command, target.threads, execution.told)
        result: dict[str, Any] = json.loads(given.read_text(encoding="utf-8"))
    return result


def _run(command: Sequence[str], threads: int, told: Callable[[str], None] | None) -> None:
    """Run a command to its end. It is in a session of its own, so that Ctrl-C reaches us alone, who then end it.

    Its standard input is a pipe that nobody writes to: it closes when this process is gone, however that came about,
    which ends the measuring program too.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            for line in process.stdout or ():
                if told is not None:
                    told(line.rstrip("\n"))
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if status != 0:
            said.seek(0)
            raise failures.ended(status, said.read().decode(errors="replace"))
