"""A trained CIFAR-10 ResNet-56, pruned to a measured time and then int8, in one command: faster and how much worse?

    COMPRESS_DATA=... python benchmarks/cifar10_resnet56.py [--set data.limit.train=19200]

Runs `pipelines/cifar10_resnet56_fast.yaml` and reads its report: the int8 file against the whole network's float file,
at batches 1 and 32, one thread, measured side by side; accuracies are of all 10,000 test images, answered by ONNX
Runtime from the files. An hour and a half on two cores; a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from common import ROOT, Claim, finish, save_result

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.execute import execute
from compress.profiling.latency import Latency
from compress.profiling.profile import compare
from compress.store import Store


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], help="override a value of the pipeline")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    arguments = parser.parse_args()
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/ and models/")
        return 0
    pipeline = read_pipeline(ROOT / "pipelines" / "cifar10_resnet56_fast.yaml", arguments.set)
    outcome = execute(pipeline, Store(arguments.store), Path("runs"), ConsoleProgress())
    assert outcome is not None
    files = {row["name"]: row for row in outcome.report["models"] if row["kind"] == "onnx"}
    reference = files[outcome.report["reference_row"]]
    int8 = next(row for row in files.values() if row["precision"] == "int8")
    latencies = {name: [Latency.from_row(row) for row in file["latency"]] for name, file in files.items()}
    lines = [
        {
            "file": name,
            "test accuracy": f"{file['metrics']['accuracy']:.2%}",
            "size": f"{file['size_bytes'] / 1e3:.0f} kB",
            **{f"p50 at batch {one.batch}": f"{one.p50_ms:.3f} ms" for one in latencies[name]},
        }
        for name, file in files.items()
    ]
    claims = []
    for before, after in zip(latencies[reference["name"]], latencies[int8["name"]], strict=True):
        ratio = compare(before, after)
        what = (
            f"int8 over the whole float file at batch {after.batch} (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
        )
        claims.append(Claim(what, ratio.value, ">=", 3.2, "{:.2f}x"))
    lost = reference["metrics"]["accuracy"] - int8["metrics"]["accuracy"]
    claims.append(Claim("accuracy lost", lost, "<=", 0.01, "{:.2%}"))
    return save_result("cifar10_resnet56", lines, claims, outcome.report.get("notes", []))


if __name__ == "__main__":
    finish(main)
