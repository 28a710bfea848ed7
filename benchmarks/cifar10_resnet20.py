"""A trained CIFAR-10 ResNet-20 in int8, against its float file and against ONNX Runtime's own static quantizer.

Runs `pipelines/cifar10_resnet20.yaml` (export, post-training int8, a short quantization-aware training), then times all
files against each other in interleaved rounds of fresh processes on one thread, at batches 1 and 32. Accuracies are of
all 10,000 test images, answered by ONNX Runtime from the files; nothing is chosen on them.

    COMPRESS_DATA=/path/to/data python benchmarks/cifar10_resnet20.py

Writes benchmarks/results/cifar10_resnet20.json and .md. About 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Claim, finish, save_result

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.data.dataset import Data
from compress.data.open import open_data
from compress.execute import execute
from compress.profiling.answers import answers
from compress.profiling.latency import Latency
from compress.profiling.profile import Profile, compare, profile
from compress.store import Store
from compress.targets.reading import read_target

BATCHES = (1, 32)
PUBLISHED_ACCURACY = 0.9173
OURS = {"calibrated": "resnet20-calibrated-ort-x86", "trained": "resnet20-trained-ort-x86"}
REFERENCE = "resnet20-fp32"


class CalibrationReader:
    """Training images one by one, in the form that ONNX Runtime's quantizer asks for."""

    def __init__(self, data: Data, count: int) -> None:
        self._batches: Iterator[Any] = data.batches(data.head(count).train, 1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image, or None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch.inputs[0]}


def static_quantization(model: Path, data: Data, count: int, out: Path) -> Path:
    """What `onnxruntime.quantization.quantize_static` makes with what it advises for this kind of network.

    After its own preprocessing: QDQ, uint8 activations, int8 weights per channel, min-max over `count` training images.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out / "prepared.onnx"
    quant_pre_process(str(model), str(prepared))
    result = out / "onnxruntime-static.onnx"
    quantize_static(
        str(prepared),
        str(result),
        CalibrationReader(data, count),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
    )
    return result


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], help="override a value of the pipeline")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    parser.add_argument("--rounds", type=int, default=16, help="fresh processes per file, interleaved")
    parser.add_argument("--seconds", type=float, default=0.5, help="measured time per file, batch and round")
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/ and models/resnet_cifar10/")
        return 0
    pipeline = read_pipeline(ROOT / "pipelines" / "cifar10_resnet20.yaml", arguments.set)
    progress = ConsoleProgress()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = execute(pipeline, Store(arguments.store), Path("runs"), progress)
        assert outcome is not None
        rows = {row["name"]: row for row in outcome.report["models"]}
        for row in rows.values():  # training is kept only if validation is no worse for it
            made_from = rows.get(row["parent"] or "", {})
            row["kept"] = made_from.get("quantization", {}).get("kept", "").replace("_", "-")
        data = open_data(pipeline.data)
        files = {name: outcome.folder / rows[name]["path"] for name in (REFERENCE, *OURS.values())}
        files["onnxruntime-static"] = static_quantization(files[REFERENCE], data, 512, Path(scratch))
        target = read_target("local").model_copy(
            update={"batches": BATCHES, "rounds": arguments.rounds, "seconds": arguments.seconds}
        )
        static = answers(files["onnxruntime-static"], data, data.test, target)
        measured = profile(files, target, progress=progress)
    labels = data.test.targets(np.arange(len(data.test)))
    accuracy = {name: rows[name]["metrics"]["accuracy"] for name in files if name in rows}
    accuracy["onnxruntime-static"] = float((static.argmax(1) == labels).mean())
    lines, claims = _lines(accuracy, rows, measured), _claims(accuracy, rows, measured)
    return save_result("cifar10_resnet20", lines, claims, measured.notes)


def _at(rows: list[Latency], batch: int) -> Latency:
    return next(row for row in rows if row.batch == batch)


def _lines(accuracy: dict[str, float], rows: dict[str, Any], measured: Profile) -> list[dict[str, Any]]:
    """One line per file: accuracy, size, int8 share, p50 at each batch and its ratio to the float file."""
    lines = []
    for name, value in accuracy.items():
        line: dict[str, Any] = {"file": name, "accuracy": f"{value:.2%}"}
        if name in rows:
            share = rows[name]["int8_share"]
            line["size"] = f"{rows[name]['size_bytes'] / 1e3:.0f} kB"
            line["int8"] = "" if share is None else f"{share:.1%}"
            line["weights kept"] = rows[name].get("kept", "")
        for batch in BATCHES:
            latency = _at(measured[name], batch)
            ratio = compare(_at(measured[REFERENCE], batch), latency)
            line[f"p50 b{batch}"] = f"{latency.p50_ms:.3f} ms"
            line[f"speed-up b{batch}"] = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
        lines.append(line)
    return lines


def _claims(accuracy: dict[str, float], rows: dict[str, Any], measured: Profile) -> list[Claim]:
    """What the README says of this benchmark, held against what was seen."""
    claims = [Claim("fp32 ONNX file, all test images", accuracy[REFERENCE], "==", PUBLISHED_ACCURACY, "{:.2%}")]
    for kind, name in OURS.items():
        drop = accuracy[REFERENCE] - accuracy[name]
        claims.append(Claim(f"{kind}: accuracy lost", drop, "<=", 0.001, "{:.2%}"))
        share = rows[name]["int8_share"]
        claims.append(Claim(f"{kind}: convolutions and additions in int8", share, ">=", 0.95, "{:.1%}"))
        for batch, least in zip(BATCHES, (1.6, 2.0), strict=True):
            ours = _at(measured[name], batch)
            against_float = compare(_at(measured[REFERENCE], batch), ours)
            claims.append(Claim(f"{kind}: speed-up at batch {batch}", against_float.value, ">=", least, "{:.2f}x"))
            against_static = compare(_at(measured["onnxruntime-static"], batch), ours)
            over = f"{kind}: over onnxruntime's static file at batch {batch} ({against_static.value:.2f}x)"
            what = f"{over}, upper end of the 95 % interval"
            claims.append(Claim(what, against_static.high, ">=", 1.05, "{:.2f}x"))
    return claims


if __name__ == "__main__":
    finish(main)
