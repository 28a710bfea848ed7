"""The programs that a target runs, each as one file that needs nothing of this package where it runs."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from compress.data.locations import cache_folder
from compress.targets.tensorrt_settings import RUNTIME

HERE = Path(__file__).parent
FOLDERS = {"onnxruntime": ("measuring",), RUNTIME: ("measuring", "measuring_tensorrt")}
"""Runtime -> the folders that its measuring program is made of; none imports more of this package, the last starts."""
MAIN = """import sys

from compress.targets.{folder}.program import main

if len(sys.argv) != 3:
    sys.exit("usage: python {folder}.pyz REQUEST.json RESULT.json")
sys.exit(main(sys.argv[1], sys.argv[2]))
"""
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that an archive can tell: equal files give equal archives."""


def program_for(runtime: str) -> Path:
    """The measuring program for a runtime: an archive that Python runs, kept in the cache folder under its digest."""
    folders = FOLDERS[runtime]
    content = _packed(folders)
    path = cache_folder() / "programs" / f"{folders[-1]}-{hashlib.sha256(content).hexdigest()[:16]}.pyz"
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
    return path


@functools.cache
def _packed(folders: tuple[str, ...]) -> bytes:
    """The archive of all modules of some folders, which starts the last one's `program`."""
    files = {
        "__main__.py": MAIN.format(folder=folders[-1]),
        "compress/__init__.py": "",
        "compress/targets/__init__.py": "",
    }
    for module in (path for folder in folders for path in (HERE / folder).glob("*.py")):
        files[f"compress/targets/{module.parent.name}/{module.name}"] = module.read_text(encoding="utf-8")
    return archive(files)


def archive(files: Mapping[str, str]) -> bytes:
    """An archive of texts by their names, the same bytes for the same texts."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:
        for name, text in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name, FIRST_DATE), text)
    return stream.getvalue()
