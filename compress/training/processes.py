"""Several processes that train together: who they are, how they meet, how they agree.

Light at import: `run` asks for its rank before it knows whether torch is needed. Ranks come from `accelerate launch`
or `torchrun`, started by `compress.training.launch` or by the user.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from compress.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

# Ranks other than 0 wait in a broadcast while rank 0 exports and measures, which may take hours. A dead peer is
# noticed by its closed connection, not by this limit.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process among all: its number, how many there are, and its number on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def launched_ranks() -> Ranks:
    """What `accelerate launch` or `torchrun` said in the environment; one process if neither started this."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Ranks()
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Ranks(rank, world_size, int(os.environ.get("LOCAL_RANK", rank)))


def join(device: str) -> Ranks:
    """Meet the other processes of the launch: gloo for the CPU, NCCL besides for CUDA. Does nothing for one process.

    Call it once per process, before any training.

    Args:
        device: as in `Context.device`.

    Raises:
        UsageError: the device is a GPU, and PyTorch sees none.
    """
    ranks = launched_ranks()
    if ranks.world_size == 1:
        return ranks
    import torch
    from accelerate import PartialState

    has_gpu = torch.cuda.is_available()
    if device.startswith("cuda") and not has_gpu:
        raise UsageError(f"device {device} does not exist: PyTorch sees no CUDA GPU; use `device: auto`")
    cpu = device == "cpu" or not has_gpu
    if cpu:
        PartialState(cpu=True, timeout=_PATIENCE)
    else:
        PartialState(backend="cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    return ranks


def leave() -> None:
    """Part from the other processes, if any were met."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from accelerate import PartialState

        PartialState().destroy_process_group()


def broadcast_object(value: Any) -> Any:
    """Rank 0's `value`, in every process that has joined; `value` itself where none has.

    It must be picklable: the processes of one launch trust each other.
    """
    if launched_ranks().world_size == 1:
        return value
    import torch

    if not torch.distributed.is_initialized():  # a rehearsal, which rank 0 holds before the others are met
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather_arrays(part: np.ndarray[Any, Any], world_size: int) -> np.ndarray[Any, Any]:
    """The parts of all ranks, one after the other along their first axis, in every process."""
    if world_size == 1:
        return part
    import numpy as np
    import torch

    parts: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(parts, part)
    return np.concatenate([p for p in parts if len(p)])
