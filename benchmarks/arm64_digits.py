"""The `ort-arm` file of the digits pipeline under ONNX Runtime's real Arm kernels, against the `ort-x86` file here.

Runs `pipelines/digits.yaml` (or reuses it), then answers its whole test set with the `ort-arm` file in an emulated
64-bit Arm Python, and with the `ort-x86` file on this machine. Emulated time means nothing and is not shown.

    COMPRESS_TOOLS=/path/to/tools python benchmarks/arm64_digits.py

Needs the script `arm64` in the folder that COMPRESS_TOOLS names, root, and Debian's packages. About five minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import platformdirs
from common import ROOT, Claim, finish, save_result

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.data.open import open_data
from compress.execute import execute
from compress.profiling.answers import answers
from compress.store import Store
from compress.targets.programs import program_for

ARM, X86 = "student-quantize-ort-arm", "student-quantize-ort-x86"
MOST_CHANGED = 0.005


def arm64(verb: str, root: Path, *arguments: str) -> None:
    """Call the script; its complaint is ours."""
    script = Path(os.environ["COMPRESS_TOOLS"]) / "arm64"
    subprocess.run(["bash", str(script), verb, str(root), *arguments], check=True, stdout=subprocess.DEVNULL)


def answers_on_arm(model: Path, inputs: np.ndarray, root: Path) -> np.ndarray:
    """The file's answers from an emulated Arm Python, by the program that measures on devices."""
    arm64("setup", root)
    program = program_for("onnxruntime")
    request = {"inputs": {"input": "files/inputs.npy"}, "output": "files/answers.npy", "batch": 32}
    job = {"model": f"files/{model.name}", "answers": request}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "inputs.npy", inputs)
        content = {"provider": "CPUExecutionProvider", "threads": 1, "cores": None, "jobs": [job]}
        (folder / "request.json").write_text(json.dumps(content))
        sent = [folder / "inputs.npy", folder / "request.json", model, program]
        arm64("copy", root, *map(str, sent))
    arm64("python", root, f"files/{program.name}", "files/request.json", "files/result.json")
    told = json.loads((root / "files" / "result.json").read_text())
    if told["machine"]["architecture"] != "aarch64":
        raise RuntimeError(f"this was no Arm machine: {told['machine']}")
    result: np.ndarray = np.load(root / "files" / "answers.npy")
    return result


def main() -> int:
    """Run, compare, print and save; the exit status says whether the claim held."""
    if "COMPRESS_TOOLS" not in os.environ:
        print("COMPRESS_TOOLS is not set: it must name the folder with the script arm64")
        return 0
    pipeline = read_pipeline(ROOT / "pipelines" / "digits.yaml")
    outcome = execute(pipeline, Store(Path(".compress")), Path("runs"), ConsoleProgress())
    assert outcome is not None
    files = {row["name"]: outcome.folder / row["path"] for row in outcome.report["models"]}
    data = open_data(pipeline.data)
    batch = data.batch(data.test, np.arange(len(data.test)))
    given = os.environ.get("COMPRESS_ARM64_ROOT")
    root = Path(given) if given else platformdirs.user_cache_path("compress-arm64")
    arm = answers_on_arm(files[ARM], batch.inputs[0], root)
    x86 = answers(files[X86], data, data.test, pipeline.targets[0])
    lines = [
        {"file": name, "kernels": kernels, "test accuracy": f"{(found.argmax(1) == batch.targets).mean():.2%}"}
        for name, kernels, found in ((ARM, "aarch64, emulated", arm), (X86, "x86-64", x86))
    ]
    changed = float((arm.argmax(1) != x86.argmax(1)).mean())
    what = f"share of the {len(arm)} test images whose class differs"
    return save_result("arm64_digits", lines, [Claim(what, changed, "<=", MOST_CHANGED, "{:.2%}")])


if __name__ == "__main__":
    finish(main)
