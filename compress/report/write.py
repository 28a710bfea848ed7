"""The three faces of a report on disk: `report.json`, `report.md`, `report.html`. Each is there whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.errors import UsageError

JSON_FILE, CARD_FILE, PAGE_FILE = "report.json", "report.md", "report.html"


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write all three into `folder`. Nothing is written if one of them cannot be made.

    Numbers that JSON has no word for (infinite, not a number) are written as null.
    """
    from compress.report.card import markdown_card
    from compress.report.page import html_page

    plain = without_nan(report)
    texts = {JSON_FILE: json_text(plain) + "\n", CARD_FILE: markdown_card(plain), PAGE_FILE: html_page(plain)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(folder / name) as scratch:
            scratch.write_text(text, encoding="utf-8", newline="\n")


def read_report(folder: Path) -> dict[str, Any]:
    """The dictionary that `report.json` in a run's folder holds.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    path = folder / JSON_FILE
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"{folder}: no {JSON_FILE} here; name the folder of a finished run, such as runs/digits"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); run the pipeline again") from error
    if not isinstance(report, dict):
        raise UsageError(f"{path}: does not hold a report; run the pipeline again")
    return report


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to instead of `path`, put in its place by rename if all went well."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        remove(scratch)


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def json_text(value: Any, indent: str = "") -> str:
    """JSON, a key a line, but lists of numbers and texts on one line: a thousand latencies are not a thousand lines."""
    deeper = indent + " "
    if isinstance(value, Mapping) and value:
        lines = [f"{deeper}{json.dumps(str(key))}: {json_text(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        return "[\n" + ",\n".join(deeper + json_text(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def without_nan(value: Any) -> Any:
    """Plain data in which numbers that JSON cannot hold are None; what NumPy made becomes Python's own."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
