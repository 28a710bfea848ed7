"""Training at rest: one folder a checkpoint, `tensors.safetensors` and `state.json`, committed by rename. No pickle."""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compress.errors import UsageError

CHECKPOINT_SECONDS = "COMPRESS_CHECKPOINT_SECONDS"
_DEFAULT_SECONDS = 20.0
_EPOCH_END_SECONDS = 5.0
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Training between two steps: `values` are JSON, `tensors` by name. `identity` is JSON that says whose it is."""

    step: int
    identity: dict[str, Any]
    values: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass
class CheckpointClock:
    """Says when a checkpoint is due: every 20 s (`COMPRESS_CHECKPOINT_SECONDS`), at an epoch's end after 5 s already.

    How often only decides how much is repeated after a kill, never what comes out.
    """

    seconds: float = field(default_factory=lambda: float(os.environ.get(CHECKPOINT_SECONDS, _DEFAULT_SECONDS)))
    _last: float = field(default_factory=time.monotonic)

    def is_due(self, *, epoch_end: bool = False) -> bool:
        """Whether enough time has gone by since the last one."""
        wait = min(self.seconds, _EPOCH_END_SECONDS) if epoch_end else self.seconds
        return time.monotonic() - self._last >= wait

    def restart(self) -> None:
        """A checkpoint was made."""
        self._last = time.monotonic()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into `folder` and drop all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    final = _place(folder, checkpoint.step)
    draft = folder / f"draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    save_file(_writable(checkpoint.tensors), draft / "tensors.safetensors")
    state = {
        "step": checkpoint.step,
        "identity": checkpoint.identity,
        "values": checkpoint.values,
        "crc32": _crc32(draft / "tensors.safetensors"),
    }
    (draft / "state.json").write_text(json.dumps(state))
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for old in sorted(folder.glob("step-*"))[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`; None if there is none.

    Raises:
        UsageError: the folder holds checkpoints of another training.
    """
    for draft in folder.glob("draft-*"):
        shutil.rmtree(draft, ignore_errors=True)
    for place in sorted(folder.glob("step-*"), reverse=True):
        checkpoint = _read(place)
        if checkpoint is None:
            continue
        if checkpoint.identity != identity:
            others = "data, task, network, recipe, seed or target"
            message = f"{folder} holds checkpoints of another training (other {others})"
            raise UsageError(f"{message}: remove the folder or name another")
        return checkpoint
    return None


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:012d}"


def _read(place: Path) -> Checkpoint | None:
    """A checkpoint, or None if it is torn (power was lost before the disk had all of it)."""
    tensors = place / "tensors.safetensors"
    try:
        state = json.loads((place / "state.json").read_text())
        if _crc32(tensors) != state["crc32"]:
            return None
        return Checkpoint(state["step"], state["identity"], state["values"], load_file(tensors))
    except (OSError, ValueError, KeyError):
        return None


def _writable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, none sharing memory with another, as safetensors wants them."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        found[name] = plain
    return found


def _crc32(path: Path) -> int:
    total = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            total = zlib.crc32(block, total)
    return total


def split_state(prefix: str, state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A flat state as (tensors under `prefix`, the other values, which must be JSON)."""
    tensors = {prefix + name: value for name, value in state.items() if isinstance(value, Tensor)}
    values = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    return tensors, values


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as tensors named `<parameter's number>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, for an optimizer over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, entries in optimizer.state.items():  # in the parameter's memory format, or sums round differently
        for entry, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[entry] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
