"""Quantized files of other tools for `int8_peers.py`: each tool in an environment of its own, its errors kept.

Environments, files and logs stay in the benchmark's cache folder, so that later calls only measure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from int8_networks import Case

BENCHMARKS = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 600
FAILED = "FAILED: "


@dataclass(frozen=True)
class Tool:
    """A peer's program and variant; `kinds` are the kinds of network that it is meant for."""

    peer: str
    variant: str
    kinds: tuple[str, ...] = ("convolution", "transformer")


PACKAGES: dict[str, tuple[str, ...]] = {
    "nncf": ("nncf==3.4.0", "onnx>=1.23,<1.24", "onnxruntime>=1.32,<1.33"),
    "nncf_torch": (
        "nncf==3.4.0", "torch==2.13.0", "torchao==0.18.0", "onnx>=1.23,<1.24", "onnxruntime>=1.32,<1.33",
        "onnxscript>=0.7.2,<1",
    ),
    "modelopt": (
        "nvidia-modelopt==0.47.0", "torch==2.13.0", "cppimport", "lief<1", "ml_dtypes<1", "onnx~=1.21.0",
        "onnx-graphsurgeon>=0.6.1,<0.7", "onnxconverter-common~=1.16.0", "onnxruntime~=1.24.2", "onnxscript>=0.7.2,<1",
        "onnxslim>=0.1.76,<0.2", "polygraphy>=0.53.4,<0.60",
    ),  # its extra [onnx], but for cupy and onnxruntime-gpu, which are for machines with a GPU
    "olive": ("olive-ai==0.13.0", "torch==2.13.0", "requests>=2,<3", "onnx>=1.23,<1.24", "onnxruntime>=1.32,<1.33"),
}  # fmt: skip
"""Peer -> what pip installs for it. ONNX Runtime's quantizer is the one that this project runs with."""
NAMED = {
    "nncf": "nncf",
    "nncf_torch": "nncf",
    "modelopt": "nvidia-modelopt",
    "olive": "olive-ai",
    "onnxruntime": "onnxruntime",
}
"""Peer -> the distribution whose version is told."""
TRANSFORMER = ("transformer",)
TOOLS: dict[str, Tool] = {
    "ort static u8s8": Tool("onnxruntime", "static-u8s8"),
    "ort static s8s8": Tool("onnxruntime", "static-s8s8"),
    "ort static u8s8, products only": Tool("onnxruntime", "static-products", TRANSFORMER),
    "ort dynamic": Tool("onnxruntime", "dynamic", TRANSFORMER),
    "ort dynamic, optimized": Tool("onnxruntime", "dynamic-optimized", TRANSFORMER),
    "nncf onnx": Tool("nncf", "onnx"),
    "nncf torch": Tool("nncf_torch", "torch"),
    "modelopt onnx": Tool("modelopt", "onnx"),
    "olive static": Tool("olive", "static"),
    "olive dynamic": Tool("olive", "dynamic", TRANSFORMER),
    "olive dynamic, optimized": Tool("olive", "dynamic-optimized", TRANSFORMER),
}


def interpreter(peer: str, folder: Path) -> Path:
    """The Python that has the peer, installed under `folder` unless it is there."""
    if peer not in PACKAGES:
        return Path(sys.executable)
    home = folder / peer / "venv"
    python, done = home / "bin" / "python", folder / peer / "installed.txt"
    wanted = "\n".join(PACKAGES[peer]) + "\n"
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {peer} into {home}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[peer]], check=True)
        done.write_text(wanted)
    return python


def version(peer: str, folder: Path) -> str:
    """The version of the peer that its environment has."""
    code = f"import importlib.metadata as m; print(m.version({NAMED[peer]!r}))"
    done = subprocess.run([interpreter(peer, folder), "-c", code], check=True, capture_output=True, text=True)
    return f"{NAMED[peer]} {done.stdout.strip()}"


def quantized(case: Case, name: str, folder: Path) -> dict[str, Any]:
    """What a tool makes of a case: `file` and `seconds`, or the first line of its `error`. Kept beside the float file.

    Delete the note (`.json`) to have it tried again.
    """
    tool = TOOLS[name]
    if case.kind not in tool.kinds:
        return {"error": f"not tried: for {' and '.join(tool.kinds)} networks"}
    stem = case.float_file.parent / f"{tool.peer}-{tool.variant}"
    note, out = stem.with_suffix(".json"), stem.with_suffix(".onnx")
    if not note.exists():
        python, log, start = interpreter(tool.peer, folder), stem.with_suffix(".log"), time.perf_counter()
        print(f"{case.name}: {name}", flush=True)
        out.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as scratch:  # some leave files where they run, or write into the float file
            given = Path(scratch) / case.float_file.name
            for suffix in (".onnx", ".pt2"):
                shutil.copy(case.float_file.with_suffix(suffix), given.with_suffix(suffix))
            stated = (case.calibration_file, out, case.kind, tool.variant)
            error = _run([python, "-m", f"peers.{tool.peer}", given, *stated], log, Path(scratch))
        if error is None and not out.exists():
            error = "it wrote no file"
        seconds = round(time.perf_counter() - start, 1)
        note.write_text(json.dumps({"error": error, "seconds": seconds}) + "\n")
    found: dict[str, Any] = json.loads(note.read_text())
    return found if found["error"] else {**found, "file": out}


def _run(command: Sequence[str | Path], log: Path, folder: Path) -> str | None:
    """Run in a folder to the end, what is said into `log`; the first line of the error, or None."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    silent = {"OLIVE_DISABLE_TELEMETRY": "1", "ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}
    with log.open("w") as said:
        try:
            status = subprocess.run(
                list(map(str, command)),
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**environment, **silent, "PYTHONPATH": str(BENCHMARKS), "OMP_NUM_THREADS": "1"},
                cwd=folder,
                timeout=TIMEOUT_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"not done after {TIMEOUT_SECONDS} s"
    if status == 0:
        return None
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(FAILED)]
    return (
        failed[-1].removeprefix(FAILED) if failed else f"status {status}: {lines[-1] if lines else 'it said nothing'}"
    )
