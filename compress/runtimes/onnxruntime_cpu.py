"""ONNX Runtime on the CPU, set up as the measuring program sets it up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compress.runtimes.runtime import Arrays
from compress.targets.failures import failure
from compress.targets.measuring.errors import RequestError, running
from compress.targets.measuring.session import open_session


class OnnxRuntimeCpu:
    """An ONNX file in ONNX Runtime's CPU provider. Raises UsageError if it cannot be loaded."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        try:
            self.session = open_session(str(path), "CPUExecutionProvider", threads)
        except RequestError as error:
            raise failure(str(path), {"kind": error.kind, "message": str(error)}) from error

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in order."""
        return tuple(item.name for item in self.session.get_inputs())

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs, in order."""
        return tuple(item.name for item in self.session.get_outputs())

    def __call__(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for one batch. Raises StageError if the model fails on it."""
        try:
            with running(dict(feeds)):
                return dict(zip(self.outputs, self.session.run(None, dict(feeds)), strict=True))
        except RequestError as error:
            raise failure(str(self.path), {"kind": error.kind, "message": str(error)}) from error
