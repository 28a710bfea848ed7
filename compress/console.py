"""What the command line shows: progress bars with the time left, lines of text, tables.

Everything goes to stderr but the answers that were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


class ConsoleProgress:
    """Bars on a terminal; in a log, one line when a task starts and one when it has ended."""

    def __init__(self, console: Console = ERR) -> None:
        self.console = console
        self._bars: Progress | None = None
        self._depth = 0

    def say(self, message: str) -> None:
        """One line."""
        self.console.print(escape(message))

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Callable[..., None]]:
        """A bar; tasks may stand inside one another. Yields `advance(steps=1, note="")`."""
        if not self.console.is_terminal:
            self.say(f"  {description} ...")
            yield lambda steps=1, note="": None
            return
        bars = self._bars or self._new_bars()
        if self._depth == 0:
            bars.start()
        self._bars, self._depth = bars, self._depth + 1
        task = bars.add_task(escape(description), total=total, note="")
        try:
            yield lambda steps=1, note="": bars.update(task, advance=steps, note=escape(note) or None)
        finally:
            self._depth -= 1
            bars.remove_task(task)
            if self._depth == 0:
                bars.stop()
                self._bars = None

    def _new_bars(self) -> Progress:
        return Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
