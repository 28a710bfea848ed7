"""One of the processes of a launched stage: `python -m compress.training.worker JOB.json`."""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from compress.errors import BUG, DONE, INTERRUPTED, CompressError
from compress.training.failures import write_failure
from compress.training.job import Job
from compress.training.launch import PROGRESS_FILE, RESULT_FILE, STOP_FILE
from compress.training.processes import Ranks, join, launched_ranks, leave
from compress.training.relay import FileProgress

_WATCH_SECONDS = 0.5
_BIRTH_SECONDS = 5.0
"""By how much two processes may differ about the time at which a third was born: the system's clock may have been set
in between."""


def main(job_file: Path) -> int:
    """Run the job as this process's rank; gives the exit status."""
    folder, plain = job_file.parent, json.loads(job_file.read_text())
    _watch(folder, plain["parent"], plain["parent_born"])
    ranks = launched_ranks()
    try:
        join(plain["context"]["device"])
        _run(plain, folder, ranks)
    except CompressError as error:
        write_failure(folder, ranks.rank, error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        write_failure(folder, ranks.rank, error)
        return BUG
    leave()
    return DONE


def _run(plain: dict[str, object], folder: Path, ranks: Ranks) -> None:
    progress = FileProgress(folder / PROGRESS_FILE) if ranks.is_main else None
    job = Job.from_json(plain, rank=ranks.rank, world_size=ranks.world_size, progress=progress)
    torch.set_num_threads(job.context.threads)
    if ranks.is_main:
        metrics = job.stage.run(job.inputs, job.out, job.context)
        draft = folder / f"{RESULT_FILE}.draft"
        draft.write_text(json.dumps(metrics))
        draft.rename(folder / RESULT_FILE)
        return
    unused = folder / f"out-{ranks.rank}"
    unused.mkdir()
    job.stage.run(job.inputs, unused, job.context)


def _watch(folder: Path, parent: int, born: float) -> None:
    """End with the parent: on its stop file after the step in progress, on its death at once."""
    process = _born_at(parent, born)

    def watch() -> None:
        while True:
            time.sleep(_WATCH_SECONDS)
            if process is None or not process.is_running():
                os._exit(BUG)
            if (folder / STOP_FILE).exists():
                if int(os.environ.get("RANK", "0")) == 0:
                    _thread.interrupt_main()
                return

    threading.Thread(target=watch, name="compress-watch", daemon=True).start()


def _born_at(number: int, born: float) -> psutil.Process | None:
    """The process of that number; None if it is gone, or its number is another's by now."""
    with suppress(psutil.Error):
        process = psutil.Process(number)
        if abs(process.create_time() - born) <= _BIRTH_SECONDS:
            return process
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
