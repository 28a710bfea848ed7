"""What the manifest tells of each file beyond the file itself: what it is for, what was measured of it, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PURPOSES = {
    "fp32": "any processor and any ONNX runtime; float32",
    "fp16": "GPUs and processors that compute in float16; half the size of fp32",
    "bf16": "GPUs that compute in bfloat16; ONNX Runtime's CPU provider cannot run it",
    "ort-x86": "ONNX Runtime on x86 processors with VNNI (or AMX); int8",
    "ort-x86-avx2": "ONNX Runtime on x86 processors without VNNI; int8 with weights of 7 bits",
    "ort-arm": "ONNX Runtime on Arm processors; int8",
    "tensorrt": "TensorRT, which builds an engine of it on the GPU that it will run on; int8, symmetric",
    "ort-dynamic": "ONNX Runtime on processors; linear layers in int8, scaled as their inputs come",
    "ort-weights8": "ONNX Runtime on processors; weights of linear layers in blocks of 8 bits",
    "ort-weights4": "ONNX Runtime on processors; weights of linear layers in blocks of 4 bits",
}
"""Emission -> where such a file is of use."""
TIMES = (
    "batch", "shape", "threads", "mode", "p50_ms", "p50_ci95_ms", "p90_ms", "p99_ms", "throughput_per_s", "load_ms",
    "peak_memory_bytes", "emulated",
)  # fmt: skip
"""What is told of each measurement of latency; absent what was not measured."""


def purpose(profile: str) -> str:
    """What a file of an emission is for, in words."""
    return PURPOSES.get(profile, "the runtime that it was made for")


def measured(report: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Accuracy and latency of the row `name` of a `report.json`: one entry for each target, with what it is.

    Metrics are of the test data and of the answers that the file gave there.
    """
    model = next(row for row in report["models"] if row["name"] == name)
    found = []
    for target in report["targets"]:
        latency = [entry for entry in model["latency"] if entry["target"] == target["name"]]
        judged = model.get("metrics_by_target", {}).get(target["name"])
        if judged is None and not latency:
            continue
        found.append(
            {
                "target": target["name"],
                "runtime": target["runtime"],
                "machine": dict(target.get("machine") or {}),
                "versions": dict(target.get("versions") or {}),
                "split": "test",
                "metrics": dict(model["metrics"] if judged is None else judged),
                "latency": [_times(entry) for entry in latency],
            }
        )
    return found


def made_with(report: Mapping[str, Any]) -> dict[str, str]:
    """The versions of the libraries that made the files."""
    return dict(report["environment"].get("libraries") or {})


def _times(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in TIMES if entry.get(key) is not None}
