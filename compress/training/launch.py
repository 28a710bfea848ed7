"""One stage run by several processes on this machine, started by `accelerate launch`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from compress.bundle import Bundle
from compress.errors import StageError
from compress.stage import Context, Metrics, Stage
from compress.training.failures import read_failure
from compress.training.job import Job
from compress.training.relay import Relay

JOB_FILE, RESULT_FILE, PROGRESS_FILE, OUTPUT_FILE, STOP_FILE = (
    "job.json",
    "result.json",
    "progress.jsonl",
    "output.txt",
    "stop",
)
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0


def run_in_processes(
    stage: Stage, inputs: Mapping[str, Bundle], out: Path, context: Context, processes: int
) -> Metrics:
    """Run `stage` in `processes` processes that share `context.threads`; rank 0 writes into `out`.

    Raises:
        UsageError: as the stage does in any of the processes.
        StageError: as the stage does, or a process was killed.
        KeyboardInterrupt: Ctrl-C, after rank 0 has written its checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="compress-job-") as name:
        folder = Path(name)
        threads = max(1, context.threads // processes)
        job = Job(stage, inputs, out.resolve(), replace(context, threads=threads)).as_json()
        (folder / JOB_FILE).write_text(
            json.dumps({**job, "parent": os.getpid(), "parent_born": psutil.Process().create_time()})
        )
        relay = Relay(folder / PROGRESS_FILE, context.progress)
        with (folder / OUTPUT_FILE).open("wb") as output:
            launcher = subprocess.Popen(
                launch_command(folder / JOB_FILE, processes, threads),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while launcher.poll() is None:
                    relay.poll()
                    time.sleep(_POLL_SECONDS)
                relay.poll()
            except BaseException:
                (folder / STOP_FILE).touch()
                _wait(launcher, _PATIENCE_SECONDS)
                raise
            finally:
                relay.close()
                _end(launcher)
        return _result(folder, launcher.returncode)


def launch_command(job_file: Path, processes: int, threads: int) -> list[str]:
    """The call of `accelerate launch`. Its `--multi_gpu` means torchrun's launcher, which serves CPUs as well."""
    options = {
        "num_processes": processes,
        "num_machines": 1,
        "num_cpu_threads_per_process": threads,
        "mixed_precision": "no",
        "dynamo_backend": "no",
        "main_process_port": 0,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *flags]
    return [*launcher, "--module", "compress.training.worker", str(job_file)]


def _wait(launcher: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        launcher.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End the launcher and its workers, whatever state they are in."""
    if launcher.poll() is None:
        os.killpg(launcher.pid, signal.SIGTERM)
        _wait(launcher, _PATIENCE_SECONDS)
    if launcher.poll() is None:
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()


def _result(folder: Path, status: int) -> Metrics:
    failure = read_failure(folder)
    if failure is not None:
        raise failure
    if status == 0 and (folder / RESULT_FILE).exists():
        metrics: Metrics = json.loads((folder / RESULT_FILE).read_text())
        return metrics
    last = (folder / OUTPUT_FILE).read_text(errors="replace").strip().splitlines()[-15:]
    raise StageError("\n".join([f"the training processes ended with status {status} and no word of their own:", *last]))
