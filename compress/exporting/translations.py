"""PyTorch's table of how its operators are written in ONNX, made once: `torch.onnx.export` makes it for each network.

That is half of the time of a small network's export: the sources of some five hundred functions are parsed again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

try:  # not public: where a version of PyTorch has it elsewhere, each export makes the table as it does by itself
    from torch.onnx._internal.exporter._registration import ONNXRegistry
except ImportError:
    ONNXRegistry = None  # type: ignore[assignment, misc]
MAKER = "from_torchlib"


@contextmanager
def kept_translations() -> Iterator[None]:
    """As long as the context lasts an export is given a copy of the table that the first one of this process made."""
    if not hasattr(ONNXRegistry, MAKER):
        yield
        return
    with patch.object(ONNXRegistry, MAKER, staticmethod(_copied)):
        yield


def _copied(*arguments: Any, **keywords: Any) -> Any:
    """A table that may be changed without changing that of other exports."""
    table = copy.copy(_made(*arguments, **keywords))
    table.functions = {target: [*functions] for target, functions in table.functions.items()}
    return table


_MAKE = getattr(ONNXRegistry, MAKER, None)


@cache
def _made(*arguments: Any, **keywords: Any) -> Any:
    assert _MAKE is not None
    return _MAKE(*arguments, **keywords)
