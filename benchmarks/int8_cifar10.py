"""Trained CIFAR-10 ResNets in int8: accuracy of every file on all test images, and how far the files agree.

    COMPRESS_DATA=... COMPRESS_TOOLS=... python benchmarks/int8_cifar10.py [resnet20] [resnet56]

Each network is trained in int8 once on the symmetric grid, and files for x86, Arm and TensorRT are made of it; once
with weights of 7 bits for x86 processors without VNNI. Accuracies are of all 10,000 test images, answered by ONNX
Runtime from the files; nothing is chosen on them, and as the published weights were trained on the validation images
too, nothing on those either: the last epoch is kept. The Arm file is answered by ONNX Runtime's Arm kernels too, in an
emulated 64-bit Arm Python (without COMPRESS_TOOLS that is left out). The TensorRT file is answered by ONNX Runtime
without optimizations, because no engine can be built without a GPU. About an hour and a half on one core; what was
trained and answered is kept, so that an interrupted call goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from arm64_digits import answers_on_arm
from common import ROOT, Claim, cifar10_settings, finish, save_result
from rich.progress import track

import compress
from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.data.dataset import Data
from compress.execute import execute
from compress.exporting.lint.bare import lint_bare_file
from compress.exporting.parity import run
from compress.store import Store

WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
PUBLISHED = {"resnet20": 0.9173, "resnet56": 0.9339}
LOST = 0.001
AGREEMENT = 0.995
BATCH = 100
PIECE = 1000
"""Images that one emulated process answers."""
SYMMETRIC = ("ort-x86", "ort-arm", "tensorrt")
CACHE = Path.home() / ".cache" / "compress" / "benchmarks" / "int8_cifar10"
PIPELINE = """
name: int8-cifar10-{name}
seed: 0
data: {data}
models:
  {name}: {{zoo: {name}, shortcut: A, weights: $COMPRESS_DATA/models/resnet_cifar10/{weights}}}
stages:
  - quantize: {{grid: symmetric, weight_bits: 8, calibration: percentile, {training}}}
    name: symmetric
  - export: {{emit: [ort-x86, ort-arm, tensorrt]}}
    name: export-symmetric
  - quantize: {{grid: affine, weight_bits: 7, {training}}}
    name: seven
    from: {name}
  - export: {{emit: [ort-x86-avx2]}}
targets: [local]
"""
TRAINING = (
    "epochs: 1, batch_size: 64, optimizer: sgd, learning_rate: 0.005, gradient_clip: 1, freeze_batch_norm: true, "
    "keep: last"
)


def files_of(name: str, store: Path) -> dict[str, Path]:
    """The files by emission."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name}.yaml"
    data = json.dumps(cifar10_settings())
    path.write_text(PIPELINE.format(name=name, data=data, weights=WEIGHTS[name], training=TRAINING))
    outcome = execute(read_pipeline(path, []), Store(store), Path("runs"), ConsoleProgress())
    assert outcome is not None
    rows = {row["name"]: row for row in outcome.report["models"]}
    found = {"fp32": outcome.folder / rows[outcome.report["reference_row"]]["path"]}
    for emission in SYMMETRIC:
        found[emission] = outcome.folder / rows[f"{name}-symmetric-{emission}"]["path"]
    found["ort-x86-avx2"] = outcome.folder / rows[f"{name}-seven-ort-x86-avx2"]["path"]
    return found


def classes_of(path: Path, data: Data, *, optimize: bool) -> np.ndarray:
    """The class of each test image."""
    found = []
    for start in range(0, len(data.test), BATCH):
        batch = data.batch(data.test, np.arange(start, min(start + BATCH, len(data.test))))
        found += [output.argmax(1) for output in run(path, [{"input": batch.inputs[0]}], optimize=optimize)]
    return np.concatenate(found)


def classes_on_arm(path: Path, data: Data, images: int) -> np.ndarray:
    """The class of each of the first test images, by ONNX Runtime's Arm kernels; what was answered is read back."""
    given = os.environ.get("COMPRESS_ARM64_ROOT")
    root = Path(given) if given else platformdirs.user_cache_path("compress-arm64")
    folder = CACHE / "on-arm" / hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for start in track(range(0, images, PIECE), "on Arm kernels"):
        kept = folder / f"{start}.npy"
        if not kept.exists():
            batch = data.batch(data.test, np.arange(start, start + PIECE))
            np.save(kept, answers_on_arm(path, batch.inputs[0], root).argmax(1))
        found.append(np.load(kept))
    return np.concatenate(found)


def compare(name: str, data: Data, store: Path, on_arm: int) -> tuple[list[dict[str, Any]], list[Claim]]:
    """The table's lines and the claims of one network."""
    files = files_of(name, store)
    targets = data.test.targets(np.arange(len(data.test)))
    classes = {key: classes_of(path, data, optimize=key != "tensorrt") for key, path in files.items()}
    accuracy = {key: float((found == targets).mean()) for key, found in classes.items()}
    lines = [
        {
            "network": name,
            "file": key,
            "test accuracy": f"{accuracy[key]:.2%}",
            "same class as float": f"{(found == classes['fp32']).mean():.2%}",
        }
        for key, found in classes.items()
    ]
    claims = [
        Claim(f"{name}: float file, points off what was published", abs(accuracy["fp32"] - PUBLISHED[name]), "<=", 5e-4)
    ]
    claims += [
        Claim(f"{name} {key}: accuracy lost to the float file", accuracy["fp32"] - accuracy[key], "<=", LOST, "{:.2%}")
        for key in files
        if key != "fp32"
    ]
    if "COMPRESS_TOOLS" in os.environ:
        found = classes_on_arm(files["ort-arm"], data, on_arm)
        right, before = (float((given == targets[:on_arm]).mean()) for given in (found, classes["fp32"][:on_arm]))
        lines.append(
            {
                "network": name,
                "file": f"ort-arm on Arm kernels, {on_arm:,} images",
                "test accuracy": f"{right:.2%}",
                "same class as float": f"{(found == classes['fp32'][:on_arm]).mean():.2%}",
            }
        )
        what = f"{name} ort-arm on Arm kernels: accuracy lost to the float file on {on_arm:,} images"
        claims.append(Claim(what, before - right, "<=", LOST, "{:.2%}"))
    for first, second in (("ort-x86", "tensorrt"), ("ort-x86", "ort-arm"), ("tensorrt", "ort-arm")):
        share = float((classes[first] == classes[second]).mean())
        claims.append(Claim(f"{name}: {first} and {second} give the same class", share, ">=", AGREEMENT, "{:.2%}"))
    errors = [item for item in lint_bare_file(files["tensorrt"], "tensorrt")["findings"] if item["severity"] == "error"]
    claims.append(Claim(f"{name}: errors that the linter finds in the TensorRT file", float(len(errors)), "<=", 0))
    return lines, claims


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(WEIGHTS), help="by default both")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    parser.add_argument("--on-arm", type=int, default=10_000, help="test images for the Arm kernels, in thousands")
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/ and models/")
        return 0
    data = compress.load_data(ROOT / "configs" / "data" / "cifar10.yaml")
    lines: list[dict[str, Any]] = []
    claims: list[Claim] = []
    for name in arguments.networks:
        more, held = compare(name, data, arguments.store, arguments.on_arm)
        lines, claims = lines + more, claims + held
    return save_result("int8_cifar10", lines, claims)


if __name__ == "__main__":
    finish(main)
