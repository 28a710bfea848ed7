"""Imports of packages that may be absent or broken. Light: standard library only."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from types import ModuleType

from compress.errors import UsageError


def import_or_explain(name: str, extra: str) -> ModuleType:
    """The module `name`, which the toolkit's `extra` installs.

    Raises:
        UsageError: it is absent, or fails while it is imported (a torchvision made for another torch does).
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        install = f"pip install 'compress-toolkit[{extra}]'"
        package = name.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise UsageError(f"{name} cannot be imported: {package} is not installed; {install}") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise UsageError(
            f"{name} cannot be imported ({type(error).__name__}: {reason}): install a version that fits torch "
            f"{version('torch')}, for instance with {install}"
        ) from error
