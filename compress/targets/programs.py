"""The program that a target runs, as one file that needs nothing of this package where it runs."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from compress.data.locations import cache_folder
from compress.targets import measure

FOLDER = Path(__file__).parent
TENSORRT_MODULES = ("measure", "cuda_driver", "tensorrt_build", "tensorrt_session", "measure_tensorrt")
"""What the program for TensorRT is made of; none imports more of this package."""
MAIN = """import sys

from compress.targets.measure_tensorrt import main

sys.exit(main(sys.argv[1], sys.argv[2]))
"""
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that an archive can tell: equal files give equal archives."""


def program_for(runtime: str) -> Path:
    """The measuring program for a runtime of `compress.targets.settings`."""
    return tensorrt_program() if runtime == "tensorrt" else Path(measure.__file__)


def tensorrt_program() -> Path:
    """The program for TensorRT: an archive that Python runs, kept in the cache folder under its digest."""
    files = {"__main__.py": MAIN, "compress/__init__.py": "", "compress/targets/__init__.py": ""}
    for name in TENSORRT_MODULES:
        files[f"compress/targets/{name}.py"] = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    content = archive(files)
    path = cache_folder() / "programs" / f"measure_tensorrt-{hashlib.sha256(content).hexdigest()[:16]}.pyz"
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
    return path


def archive(files: Mapping[str, str]) -> bytes:
    """An archive of texts by their names, the same bytes for the same texts."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:
        for name, text in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name, FIRST_DATE), text)
    return stream.getvalue()
