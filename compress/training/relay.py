"""Progress across processes: the worker appends lines of JSON to a file, the parent reads them as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from compress.stage import Progress


class FileProgress:
    """Writes what happens into a file."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("a", buffering=1)

    def _write(self, **event: Any) -> None:
        self._stream.write(json.dumps(event) + "\n")

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Callable[..., None]]:
        """Reports a task's start, steps and end."""
        self._write(start=description, total=total)
        yield lambda steps=1, note="": self._write(steps=steps, note=note)
        self._write(end=description)

    def say(self, message: str) -> None:
        """Reports a line for the user."""
        self._write(say=message)


class Relay:
    """Shows on `progress` what a `FileProgress` in another process writes."""

    def __init__(self, path: Path, progress: Progress) -> None:
        path.touch()
        self._stream = path.open()
        self._progress = progress
        self._tasks: list[tuple[ExitStack, Callable[..., None]]] = []
        self._rest = ""

    def poll(self) -> None:
        """Show what was written since the last call."""
        text = self._rest + self._stream.read()
        *lines, self._rest = text.split("\n")
        for line in lines:
            self._show(json.loads(line))

    def close(self) -> None:
        """End the tasks that are still open."""
        self._stream.close()
        while self._tasks:
            self._tasks.pop()[0].close()

    def _show(self, event: dict[str, Any]) -> None:
        if "say" in event:
            self._progress.say(event["say"])
        elif "start" in event:
            stack = ExitStack()
            advance = stack.enter_context(self._progress.task(event["start"], event["total"]))
            self._tasks.append((stack, advance))
        elif "end" in event:
            self._tasks.pop()[0].close()
        else:
            self._tasks[-1][1](event["steps"], note=event["note"])
