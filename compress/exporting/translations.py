"""PyTorch's table of how its operators are written in ONNX, made once: `torch.onnx.export` makes it for each network.

That is half of the time of a small network's export: the sources of some five hundred functions are parsed again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

MAKER = "from_torchlib"


@contextmanager
def kept_translations() -> Iterator[None]:
    """As long as the context lasts an export is given a copy of the table that the first one of this process made."""
    found = _maker()
    if found is None:
        yield
        return
    registry, make = found

    def copied(*arguments: Any, **keywords: Any) -> Any:
        table = copy.copy(make(*arguments, **keywords))
        table.functions = {target: [*functions] for target, functions in table.functions.items()}
        return table

    with patch.object(registry, MAKER, staticmethod(copied)):
        yield


@cache
def _maker() -> tuple[type, Callable[..., Any]] | None:
    """The class of the table, and what makes each one once; imported late, since it imports onnxscript.

    It is not public: None where a version of PyTorch has it elsewhere, so that each export makes its own table.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        return ONNXRegistry, cache(getattr(ONNXRegistry, MAKER))
    except (ImportError, AttributeError):
        return None
