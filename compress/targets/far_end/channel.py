"""Requests, answers and chunks of files between the two ends."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from typing import Any

ABORTED = 2**32 - 1


class ClosedError(Exception):
    """The other end is gone."""


class RefusedError(Exception):
    """What was asked cannot be done; `kind` is `disk`, `folder`, `file` or `ended`."""

    def __init__(self, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.told = {"kind": kind, "message": message, **more}


class Channel:
    """Lines and chunks on standard input and output; whatever else prints goes to standard error."""

    def __init__(self) -> None:
        self.output = os.dup(1)
        os.dup2(2, 1)
        self.waiting = b""

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        while len(self.waiting) < count:
            self.waiting += self.more(max(65536, count - len(self.waiting)))
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken

    def more(self, count: int) -> bytes:
        """What is there, at most `count` bytes. Raises ClosedError if there will be no more."""
        found = os.read(0, count)
        if not found:
            raise ClosedError
        return found

    def request(self) -> dict[str, Any]:
        """The next request."""
        while b"\n" not in self.waiting:
            self.waiting += self.more(65536)
        line, _, self.waiting = self.waiting.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def chunks(self) -> Iterator[bytes]:
        """A file's chunks; ClosedError is raised if it is given up."""
        while True:
            (size,) = struct.unpack(">I", self.take(4))
            if size == ABORTED:
                raise RefusedError("file", "it was given up")
            if size == 0:
                return
            yield self.take(size)

    def write(self, data: bytes) -> None:
        """All of `data`. Raises ClosedError if nobody reads it."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.output, view) :]
            except OSError:
                raise ClosedError from None

    def answer(self, content: dict[str, Any]) -> None:
        """One answer."""
        self.write(json.dumps(content).encode() + b"\n")
