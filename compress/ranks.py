"""`compress run` in several processes (`accelerate launch`, `torchrun`): one leads, the others help to train.

Rank 0 plans, runs, measures and writes. For each step that trains it hands the job to the others, and all of them run
the stage together; in between the others wait. The store must lie where all of them can read it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compress.bundle import Bundle
from compress.plan import Plan
from compress.stage import Context, Progress, Stage
from compress.steps import thread_count
from compress.training.processes import broadcast_object, join, launched_ranks, leave


@dataclass(frozen=True)
class Job:
    """A stage to run together: its settings, its inputs, and where its checkpoints lie."""

    stage: Stage
    inputs: dict[str, Bundle]
    checkpoints: Path | None


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Meet the other processes of a launch; at the end let them go, whatever happened. Nothing for one process."""
    ranks = join(device)
    try:
        yield
    finally:
        if ranks.world_size > 1:
            if ranks.is_main:
                broadcast_object(None)
            leave()


def lead(stage: Stage, inputs: Mapping[str, Bundle], out: Path, context: Context) -> dict[str, Any]:
    """Run a stage together with the other processes, as the one that writes."""
    broadcast_object(Job(stage, dict(inputs), context.checkpoints))
    return stage.run(inputs, out, _share(context, rank=0))


def follow(plan: Plan, progress: Progress) -> None:
    """Run the stages that rank 0 hands out until it says that there are no more. What is written is thrown away."""
    pipeline = plan.pipeline
    while True:
        job: Job | None = broadcast_object(None)
        if job is None:
            return
        context = Context(
            seed=pipeline.seed,
            device=pipeline.device,
            threads=thread_count(pipeline),
            data=pipeline.data,
            task=pipeline.task,
            checkpoints=job.checkpoints,
            progress=progress,
            world_size=pipeline.processes,
        )
        with tempfile.TemporaryDirectory(prefix="compress-rank-") as scratch:
            job.stage.run(job.inputs, Path(scratch), _share(context, launched_ranks().rank))


def _share(context: Context, rank: int) -> Context:
    """One process's part of the threads; all of them on a GPU machine would fight for the same cores."""
    import torch

    threads = max(1, context.threads // context.world_size)
    torch.set_num_threads(threads)
    return replace(context, rank=rank, threads=threads)
