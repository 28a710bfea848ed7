"""Where files are: environment variables, paths beside the file that names them, built-in files, the user's cache."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def builtin_folder(kind: str) -> Path:
    """The folder of built-in `data` or `targets` files: inside an installed package, else in the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs" / kind
    return installed if installed.is_dir() else package.parent / "configs" / kind


def cache_folder() -> Path:
    """The folder for what can be made again: `COMPRESS_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("COMPRESS_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("compress", appauthor=False)


def expand(text: str) -> str:
    """`text` with `$NAME`, `${NAME}` and `~` replaced; ValueError names a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if name not in os.environ:
            raise ValueError(f"{text!r} needs the environment variable {name}, which is not set")
        return os.environ[name]

    return os.path.expanduser(_VARIABLE.sub(value, text))  # noqa: PTH111 - text may hold a glob or a function's name


def candidates(text: str, base: Path | None) -> list[Path]:
    """The absolute paths that `text` may mean: in `base`, beside the file that names it, then in the working folder."""
    path = Path(expand(text))
    if path.is_absolute():
        return [path]
    folders = [Path.cwd()] if base is None else [base.resolve(), Path.cwd()]
    return list(dict.fromkeys(Path(os.path.normpath(folder / path)) for folder in folders))


def find_path(text: str, base: Path | None) -> Path:
    """The existing file or folder that `text` means, absolute; ValueError lists where it was sought."""
    tried = candidates(text, base)
    for path in tried:
        if path.exists():
            return path
    raise ValueError(f"no such file or folder: {' nor '.join(map(str, tried))}")


def find_paths(text: str, base: Path | None) -> list[Path]:
    """Like `find_path` for a name that may be a glob pattern (`train-*.parquet`): its matches, sorted by name.

    What is there under its very name is no pattern, whatever brackets and stars stand in it.
    """
    if not glob.has_magic(text):
        return [find_path(text, base)]
    tried = candidates(text, base)
    for path in tried:
        if found := [path] if path.exists() else _matches(path):
            return found
    raise ValueError(f"no file matches {' nor '.join(map(str, tried))}")


def _matches(pattern: Path) -> list[Path]:
    """The sorted matches of an absolute pattern, in which folders that are there are no part of the pattern."""
    root, *parts = pattern.parts
    folder = Path(root)
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    names = glob.glob(os.path.join(*parts), root_dir=folder, recursive=True) if parts else []  # noqa: PTH118, PTH207
    return [folder / name for name in sorted(names)]
