"""Trained CIFAR-10 ResNets in int8: accuracy of every file on all test images, and how far the files agree.

    COMPRESS_DATA=... COMPRESS_TOOLS=... python benchmarks/int8_cifar10.py [resnet20] [resnet56]

Each network is trained in int8 once on the symmetric grid, and files for x86, Arm and TensorRT are made of it; once
with weights of 7 bits for x86 processors without VNNI. Accuracies are of all 10,000 test images, answered by ONNX
Runtime from the files; nothing is chosen on them. The Arm file is answered by ONNX Runtime's Arm kernels too, in an
emulated 64-bit Arm Python, on the first 1,000 images (without COMPRESS_TOOLS that is left out). The TensorRT file is
answered by ONNX Runtime without optimizations, because no engine can be built without a GPU. About forty minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from arm64_digits import answers_on_arm
from common import ROOT, Claim, cifar10_settings, save_result

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
ON_ARM = 1000
BATCH = 100
IMAGES = 12800
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
TRAINING = "epochs: 1, batch_size: 128, optimizer: sgd, learning_rate: 0.0005, freeze_batch_norm: true"


def files_of(name: str, store: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The files by emission, and which weights each quantization kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name}.yaml"
    data = json.dumps(cifar10_settings(train=IMAGES))
    path.write_text(PIPELINE.format(name=name, data=data, weights=WEIGHTS[name], training=TRAINING))
    outcome = execute(read_pipeline(path, []), Store(store), Path("runs"), ConsoleProgress())
    assert outcome is not None
    rows = {row["name"]: row for row in outcome.report["models"]}
    found = {"fp32": outcome.folder / rows[outcome.report["reference_row"]]["path"]}
    for emission in SYMMETRIC:
        found[emission] = outcome.folder / rows[f"{name}-symmetric-{emission}"]["path"]
    found["ort-x86-avx2"] = outcome.folder / rows[f"{name}-seven-ort-x86-avx2"]["path"]
    kept = {stage: rows[f"{name}-{stage}"]["quantization"]["kept"] for stage in ("symmetric", "seven")}
    return found, kept


def classes_of(path: Path, data: Data, *, optimize: bool) -> np.ndarray:
    """The class of each test image."""
    found = []
    for start in range(0, len(data.test), BATCH):
        batch = data.batch(data.test, np.arange(start, min(start + BATCH, len(data.test))))
        found += [output.argmax(1) for output in run(path, [{"input": batch.inputs[0]}], optimize=optimize)]
    return np.concatenate(found)


def compare(name: str, data: Data, store: Path) -> tuple[list[dict[str, Any]], list[Claim], list[str]]:
    """The table's lines, the claims and the notes of one network."""
    files, kept = files_of(name, store)
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
        given = os.environ.get("COMPRESS_ARM64_ROOT")
        root = Path(given) if given else platformdirs.user_cache_path("compress-arm64")
        images = data.batch(data.test, np.arange(ON_ARM)).inputs[0]
        on_arm = answers_on_arm(files["ort-arm"], images, root).argmax(1)
        right, before = (float((found[:ON_ARM] == targets[:ON_ARM]).mean()) for found in (on_arm, classes["fp32"]))
        lines.append(
            {"network": name, "file": f"ort-arm on Arm kernels, {ON_ARM} images", "test accuracy": f"{right:.2%}"}
        )
        what = f"{name} ort-arm on Arm kernels: accuracy lost to the float file on {ON_ARM} images"
        claims.append(Claim(what, before - right, "<=", LOST, "{:.2%}"))
    for first, second in (("ort-x86", "tensorrt"), ("ort-x86", "ort-arm"), ("tensorrt", "ort-arm")):
        share = float((classes[first] == classes[second]).mean())
        claims.append(Claim(f"{name}: {first} and {second} give the same class", share, ">=", AGREEMENT, "{:.2%}"))
    errors = [item for item in lint_bare_file(files["tensorrt"], "tensorrt")["findings"] if item["severity"] == "error"]
    claims.append(Claim(f"{name}: errors that the linter finds in the TensorRT file", float(len(errors)), "<=", 0))
    notes = [f"{name}: the {stage} quantization kept the {weights} weights" for stage, weights in kept.items()]
    return lines, claims, notes


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(WEIGHTS), help="by default both")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/ and models/")
        return 0
    data = compress.load_data(ROOT / "configs" / "data" / "cifar10.yaml")
    lines: list[dict[str, Any]] = []
    claims: list[Claim] = []
    notes: list[str] = []
    for name in arguments.networks:
        more, held, said = compare(name, data, arguments.store)
        lines, claims, notes = lines + more, claims + held, notes + said
    return save_result("int8_cifar10", lines, claims, notes)


if __name__ == "__main__":
    sys.exit(main())
