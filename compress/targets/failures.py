"""Why a program on a target, or the target itself, did not do what was asked: in words, with what to do."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping

from compress.errors import UNREACHABLE, CompressError, StageError, UsageError


class UnreachableError(StageError):
    """A target, named `target`, cannot be reached, or was lost while it worked. Exit status 6."""

    exit_status = UNREACHABLE

    def __init__(self, message: str, target: str = "") -> None:
        super().__init__(message)
        self.target = target


FAILURES: dict[str, Callable[[str], CompressError]] = {
    "model": UsageError,
    "axes": UsageError,
    "provider": UsageError,
    "run": StageError,
    "library": UsageError,
    "gpu": UsageError,
    "engine": UsageError,
    "parse": UsageError,
    "memory": StageError,
    "build": StageError,
}
"""What the measuring program says went wrong -> whose fault that is."""


def failure(name: str, error: Mapping[str, str]) -> CompressError:
    """The measuring program's `error` about the file `name`, to be raised."""
    return FAILURES[error["kind"]](f"{name}: {error['message']}")


def ended(status: int, said: str) -> StageError:
    """A program that ended before its time, by its exit status (negative: a signal's number) and last words."""
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    if status == -signal.SIGKILL:
        return StageError(
            "the measuring process was killed; most often that means too little memory for this model and batch size"
        )
    if status < 0:
        return StageError(f"the measuring process crashed ({signal.Signals(-status).name}): {last[0]}")
    return StageError(f"the measuring process failed with status {status}: {last[0]}")


def no_space(target: str, why: str, folder: str | None) -> StageError:
    """The target's disk is full."""
    place = f"{folder} " if folder else ""
    return StageError(
        f"target '{target}': its disk is full ({place}{why}); free some space there, name a folder with room "
        "(`folder:`), or send fewer examples (`evaluate: {samples: N}`)"
    )


REASONS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key is not the known one: if the machine was set up anew, "
     "forget the old key with `ssh-keygen -R {name}`", True),
    (r"Host key verification failed|No .* host key is known", "its host key is not known here: connect once by hand "
     "(`ssh {where}`) and confirm it", True),
    (r"Permission denied|Too many authentication failures|no mutual signature", "it refuses every key of yours: put "
     "one there with `ssh-copy-id {where}`, or name the right one (IdentityFile in your ssh configuration)", True),
    (r"Identity file .* not accessible|Bad configuration option|Can't open user config file|bad permissions",
     "your ssh configuration cannot be used", True),
    (r"Could not resolve hostname", "no machine of that name is known: check `host:` (and its entry in your ssh "
     "configuration)", False),
    (r"Connection refused", "nothing answers there: is it the right machine and port, and does sshd run on it?", False),
    (r"timed out|No route to host|Network is unreachable|Host is down", "it does not answer: is it switched on and in "
     "this network?", False),
)  # fmt: skip
"""(what ssh says, what it means, whether the settings are at fault rather than the machine away)."""


def refused(target: str, where: str, said: str) -> UsageError | UnreachableError:
    """Why ssh could not connect to `where` (user@host), from what it said."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    name = where.rpartition("@")[2]
    for pattern, meaning, wrong in REASONS:
        line = next((line for line in lines if re.search(pattern, line)), None)
        if line is not None:
            text = f"target '{target}' ({where}): {meaning.format(where=where, name=name)} [{line}]"
            return UsageError(text) if wrong else UnreachableError(text, target)
    why = lines[-1] if lines else "it is silent"
    return UnreachableError(f"target '{target}' ({where}) cannot be reached: {why}", target)


def no_python(target: str, python: str, said: str, status: int | None) -> UsageError:
    """The command of `python:` did not run there."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    why = lines[-1] if lines else f"it ended with status {status}"
    return UsageError(
        f"target '{target}': `{python}` does not run there ({why}); install Python 3.9 or later "
        "(Debian: sudo apt install python3 python3-venv), or name one with `python:`"
    )


def old_python(target: str, python: str, version: str, oldest: tuple[int, int]) -> UsageError:
    """The Python there is too old for the measuring program."""
    return UsageError(
        f"target '{target}': `{python}` is Python {version}, and {oldest[0]}.{oldest[1]} is the oldest that will do; "
        "name a newer one with `python:`"
    )


def no_package(target: str, python: str, name: str) -> UsageError:
    """The Python there lacks a package."""
    return UsageError(
        f"target '{target}': its Python has no {name}: run there `{python} -m pip install numpy onnxruntime` (in a "
        "virtual environment whose Python you name with `python:`, where the system's may not be changed)"
    )
