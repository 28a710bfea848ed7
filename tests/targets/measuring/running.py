"""Running the measuring program on tiny models, and files like the kernel's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from compress.targets.programs import program_for

HEADER = '<ir_version: 10, opset_import: ["" : 18]> '


def save(path: Path, graph: str, **weights: np.ndarray) -> Path:
    model = parser.parse_model(HEADER + graph)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)
    return path


def command(folder: Path) -> list[str]:
    """What runs the program on the request in `folder`."""
    program = str(program_for("onnxruntime"))
    return [sys.executable, "-P", program, str(folder / "request.json"), str(folder / "result.json")]


def run(folder: Path, *jobs: dict[str, Any], threads: int = 1) -> tuple[list[dict[str, Any]], int]:
    """The results, and the peak memory in bytes that the operating system tells of that process.

    A small process starts it and asks: a child's peak counts that of its parent before the exec.
    """
    request = {"provider": "CPUExecutionProvider", "threads": threads, "cores": None, "jobs": jobs}
    (folder / "request.json").write_text(json.dumps(request))
    starter = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    starter += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    said = subprocess.run(
        [sys.executable, "-S", "-c", starter, *command(folder)], capture_output=True, text=True, check=True
    )
    return json.loads((folder / "result.json").read_text())["jobs"], int(said.stdout) * 1024


def latency(**changes: Any) -> dict[str, Any]:
    request = {
        "batches": [1], "axes": {}, "warmup_seconds": 0.0, "seconds": 0.0, "minimum_calls": 3,
        "throughput_batches": None, "throughput_seconds": 0.0,
    }  # fmt: skip
    return {**request, **changes}


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder
