"""Imports of libraries that may be absent or broken."""

from __future__ import annotations

import importlib
from types import ModuleType

from compress.errors import UsageError


def import_or_explain(name: str, extra: str) -> ModuleType:
    """The module `name`, which the package's `extra` installs.

    Raises:
        UsageError: it is absent, or fails while it is imported (a torchvision made for another torch does).
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        import torch

        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise UsageError(
            f"{name} cannot be imported ({type(error).__name__}: {reason}): install a version that fits torch "
            f"{torch.__version__}, for instance with pip install 'compress-toolkit[{extra}]'"
        ) from error
