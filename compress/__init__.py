"""Distil, prune, quantize, export and measure a trained network for the hardware it must run on.

The public library: `load_data`, `load_task`, `train`, `distill`, `prune`, `quantize`, `quantize_file`, `export`,
`profile`, `save` and `load`. Names are resolved when they are first used: importing this package imports no torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime 1.32 and newer report home unless told not to

__version__ = "0.1.0"

__all__ = [
    "distill",
    "export",
    "load",
    "load_data",
    "load_task",
    "profile",
    "prune",
    "quantize",
    "quantize_file",
    "save",
    "train",
]
_ON_FILES = frozenset({"load", "profile", "quantize_file", "save"})

if TYPE_CHECKING:
    from compress.library import distill, export, load_data, load_task, prune, quantize, train
    from compress.library_files import load, profile, quantize_file, save


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    from compress import library, library_files

    return getattr(library_files if name in _ON_FILES else library, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
