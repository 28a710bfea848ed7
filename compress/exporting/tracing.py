"""What `torch.export` and `torch.onnx.export` want to be told."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_NOISY = ("torch.onnx", "torch.export", "torch.fx", "onnxscript")


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's and onnxscript's own warnings, which are about their insides."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def dynamic_shapes(module: nn.Module, per_input: tuple[Any, ...]) -> Any:
    """One entry per input, nested once more where the network takes `*inputs`."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    variadic = bool(parameters) and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    return (per_input,) if variadic else per_input


def reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
