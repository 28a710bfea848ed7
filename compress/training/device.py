"""Where a step is computed, with how many threads and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from compress.errors import UsageError
from compress.stage import Context, Progress
from compress.training.processes import launched_ranks

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_device(context: Context) -> torch.device:
    """The device that `context.device` means: `auto` is a CUDA GPU if there is one, else the CPU.

    Each process of a group takes the GPU of its local rank.

    Raises:
        UsageError: the device does not exist here.
    """
    name = context.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is none that PyTorch knows; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda":
        return _cuda_device(device, context)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps is not available here; use `device: auto`")
    return device


def _cuda_device(device: torch.device, context: Context) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if context.world_size > 1 and device.index is None:
        index = launched_ranks().local_rank
    if index >= count:
        raise UsageError(f"device cuda:{index} does not exist: PyTorch sees {count} CUDA GPUs; use `device: auto`")
    return torch.device("cuda", index)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Compute on the CPU with `count` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def unscaled(precision: str) -> str:
    """The precision of passes whose loss nobody scales: in fp16 their small gradients would be lost."""
    return "auto" if precision == "fp16" else precision


def has_fast_bf16() -> bool:
    """Whether oneDNN computes in bf16 on this processor: on x86 from AVX-512 on."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_of_slow_precision(precision: str, device: torch.device, progress: Progress) -> None:
    """Say it where PyTorch computes bf16 one number after the other, many times slower than fp32."""
    if precision == "bf16" and device.type == "cpu" and not has_fast_bf16():
        progress.say(
            "precision bf16: this processor has no instructions that PyTorch uses for it, so that training may take "
            "ten times as long as in fp32; `precision: auto` is fp32 here"
        )


class Precision:
    """The precision of forward passes and, for fp16, the scaling of the loss that keeps small gradients alive.

    Raises:
        UsageError: the device does not compute in that precision.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
        if name == "fp16" and device.type == "cpu":
            raise UsageError("precision fp16 needs a GPU; use `precision: auto`")
        self.name = name
        self._device_type = device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self._device_type, dtype=_TYPES[self.name])
