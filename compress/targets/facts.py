"""What a target tells of itself, and what it told last, for when it is away."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compress.data.locations import cache_folder
from compress.targets.measuring.conditions import conditions
from compress.targets.measuring.machine import available_cores, machine
from compress.targets.measuring.nvidia import CUDA, gpu_of
from compress.targets.settings import runtime_version
from compress.targets.tensorrt_settings import BELONGS_TO


@dataclass(frozen=True)
class Facts:
    """What is asked of a target once a run: cheap, and found without importing a runtime there.

    `versions` are those of `python`, `numpy` and `onnxruntime` (as `distribution version`), None where there is none,
    and of a target with TensorRT what its engines belong to;
    `gpu` is what NVIDIA's driver calls the GPU that CUDA would take, None without one;
    `emulated` says that its processor is not real, so that its times mean nothing.
    """

    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    usable_cores: Sequence[int]
    gpu: str | None = None
    emulated: bool = False
    free_bytes: int | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A digest of processor and runtime: what results depend on besides settings."""
        facts = {"machine": dict(self.machine), "runtime": self.versions.get("onnxruntime")}
        if "tensorrt" in self.versions:
            facts["runtime"] = {name: self.versions[name] for name in BELONGS_TO}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def local_facts() -> Facts:
    """Those of this machine."""
    versions = {"python": platform.python_version(), "onnxruntime": runtime_version()}
    gpu = gpu_of(CUDA).get("gpu")
    return Facts(machine(), versions, tuple(available_cores()), gpu=gpu, conditions=conditions())


def remember(address: Sequence[str], facts: Facts) -> None:
    """Keep what a device told, for plans that are made while it is away."""
    path = _file(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(asdict(facts)), encoding="utf-8")
    scratch.replace(path)


def remembered(address: Sequence[str]) -> Facts | None:
    """What a device told last, if anything is known of it."""
    try:
        return Facts(**json.loads(_file(address).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _file(address: Sequence[str]) -> Path:
    name = hashlib.sha256("\0".join(address).encode()).hexdigest()[:32]
    return cache_folder() / "targets" / f"{name}.json"
