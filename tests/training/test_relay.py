from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.training.relay import FileProgress, Relay


class Remembered:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        self.events.append(("start", description, total))
        yield lambda steps=1, note="": self.events.append(("advance", description, steps, note))
        self.events.append(("end", description))

    def say(self, message: str) -> None:
        self.events.append(("say", message))


def test_progress_arrives_as_it_was_made(tmp_path: Path) -> None:
    shown = Remembered()
    relay, source = Relay(tmp_path / "progress", shown), FileProgress(tmp_path / "progress")
    source.say("hello")
    relay.poll()
    assert shown.events == [("say", "hello")]
    with source.task("outer", 3) as outer:
        outer(2, note="epoch 1")
        with source.task("inner", None) as inner:
            inner()
        relay.poll()
        outer()
    relay.poll()
    relay.close()
    assert shown.events[1:] == [
        ("start", "outer", 3),
        ("advance", "outer", 2, "epoch 1"),
        ("start", "inner", None),
        ("advance", "inner", 1, ""),
        ("end", "inner"),
        ("advance", "outer", 1, ""),
        ("end", "outer"),
    ]


def test_half_a_line_waits_and_open_tasks_are_closed(tmp_path: Path) -> None:
    shown, path = Remembered(), tmp_path / "progress"
    relay = Relay(path, shown)
    with path.open("a", buffering=1) as stream:
        stream.write('{"start": "a", "total": 1}\n{"sa')
        stream.flush()
        relay.poll()
        stream.write('y": "b"}\n')
    relay.poll()
    relay.close()
    assert shown.events == [("start", "a", 1), ("say", "b"), ("end", "a")]
