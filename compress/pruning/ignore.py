"""Modules that the user wants left alone, by globs of their names."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable

from torch import nn

from compress.errors import Fault, UsageError


def ignored_modules(module: nn.Module, globs: Iterable[str]) -> set[str]:
    """Names of all modules that the globs match; `layer1.*` matches all that is inside of `layer1`.

    Raises:
        UsageError: globs that match nothing, each with names that are near.
    """
    names = [name for name, _ in module.named_modules() if name]
    found: set[str] = set()
    faults = []
    for glob in globs:
        matched = fnmatch.filter(names, glob)
        found.update(matched)
        if not matched:
            near = difflib.get_close_matches(glob, names, n=3, cutoff=0.4) or names[:3]
            faults.append(Fault(f"{glob!r} matches no module of the network (near: {', '.join(near)})", "prune.ignore"))
    if faults:
        raise UsageError(faults)
    return found


def is_under(path: str, ignored: Collection[str]) -> bool:
    """Whether the module `path`, or one that it is inside of, is ignored."""
    parts = path.split(".")
    return any(".".join(parts[:end]) in ignored for end in range(1, len(parts) + 1))
