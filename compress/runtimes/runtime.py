"""Runtimes: one face, arrays in, arrays out, in this process. Timing is not theirs: that needs a fresh process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Runtime(Protocol):
    """Runs one model."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in order."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs, in order."""

    def __call__(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for one batch. Raises StageError if the model fails on it."""
