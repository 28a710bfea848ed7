"""What is asked of a target: to run one program, with its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.stage import Progress, Silent

Together = tuple[Path, ...]
"""Files that must lie together, as a model and its weights; the first says how the others are placed."""
_SILENT = Silent()


@dataclass(frozen=True)
class Execution:
    """One run of a Python program of one file in a fresh process: `python PROGRAM REQUEST.json RESULT.json`.

    Attributes:
        program: a file of the standard library and what is installed there; it reads the request and writes the result.
        request: plain data. A text in it that is the path of an input or output is, there, the path of its copy.
        inputs: files that the program reads, sent once by their content; a tuple's files lie together there.
        outputs: files that the program writes, fetched to these paths.
        progress: where it is said how much is sent, and that a lost connection is tried again.
        told: called with each line that the program writes on its standard output, as it comes; a device passes
            on those about progress. None: nobody listens, and the device sleeps until the program ends.
    """

    program: Path
    request: Mapping[str, Any]
    inputs: Sequence[Path | Together] = ()
    outputs: Sequence[Path] = ()
    progress: Progress = _SILENT
    told: Callable[[str], None] | None = None

    @property
    def groups(self) -> list[Together]:
        """The program and the inputs: what must be there before it runs."""
        return [(item,) if isinstance(item, Path) else item for item in (self.program, *self.inputs)]
