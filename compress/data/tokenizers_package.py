"""The package `tokenizers`, asked for when texts are there: other data do without it."""

from __future__ import annotations

import importlib
from typing import Any

from compress.errors import UsageError


def tokenizers_package() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("tokenizers")
    except ImportError as error:
        raise UsageError("texts need the package `tokenizers`: pip install 'compress-toolkit[text]'") from error
