"""Reports in which all was measured that can be, and one of two rounds."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
SPEEDS = {1: 0.9, 8: 3.0, 32: 4.5, 64: 4.1}
"""Batch size -> examples a second, over the calls that fit into one at batch 1."""


def all_measured(report: Json) -> None:
    """As on a machine with RAPL and a GPU whose driver tells its memory; the Arm file knows one batch size only."""
    for row in report["models"]:
        if row["kind"] != "onnx":
            continue
        p50 = row["latency"][0]["p50_ms"]
        speeds = {32: SPEEDS[32]} if row["profile"] == "ort-arm" else SPEEDS
        offline: list[Json] = [
            {"batch": batch, "examples_per_second": 1000 / p50 * speed, "millijoules": {"rapl": 20 * p50 / speed}}
            for batch, speed in speeds.items()
        ]
        best = max(offline, key=lambda bulk: float(bulk["examples_per_second"]))
        for entry in row["latency"]:
            entry.update(
                offline=offline,
                throughput_per_s=best["examples_per_second"],
                energy_mj={**best["millijoules"], "nvml": 7.5 * p50},
                gpu_memory_bytes=2 * row["size_bytes"],
                transfers_ms={"to_device": 0.02, "to_host": 0.005},
            )


def two_rounds(report: Json) -> None:
    """As a run that asked for two rounds leaves it."""
    for row in report["models"]:
        for entry in row["latency"]:
            entry.update(rounds_ms=entry["rounds_ms"][:2], p50_ci95_ms=None)
