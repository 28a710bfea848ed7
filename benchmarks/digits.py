"""The whole chain on scikit-learn's digits: what `make demo` runs, held against what the README says of it.

    python benchmarks/digits.py

Runs `pipelines/digits.yaml` (or reuses what is in the store) and writes benchmarks/results/digits.json and .md. All
figures are read from the files by ONNX Runtime on one thread, in interleaved rounds of fresh processes. About two
minutes on two cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import ROOT, Claim, finish, save_result

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.execute import execute
from compress.store import Store

PRUNED = "student-small-fp32"


def p50_ms(row: dict[str, Any]) -> float:
    """The file's median latency at the first batch size measured."""
    return float(row["latency"][0]["p50_ms"])


def main() -> int:
    """Run, compare, print and save; the exit status says whether every claim held."""
    pipeline = read_pipeline(ROOT / "pipelines" / "digits.yaml")
    outcome = execute(pipeline, Store(Path(".compress")), Path("runs"), ConsoleProgress())
    assert outcome is not None
    report = outcome.report
    files = {row["name"]: row for row in report["models"] if row["kind"] == "onnx"}
    reference, pruned = files[report["reference_row"]], files[PRUNED]
    chosen = files.get(report["deploy"], pruned)
    lines = [
        {
            "file": name,
            "test accuracy": f"{row['metrics']['accuracy']:.2%}",
            "p50": f"{p50_ms(row):.3g} ms",
            "speed-up": f"{p50_ms(reference) / p50_ms(row):.1f}x",
            "size": f"{row['size_bytes'] / 1e3:.0f} kB",
            "operators in int8": "" if row["int8_share"] is None else f"{row['int8_share']:.0%}",
        }
        for name, row in files.items()
    ]
    drop = reference["metrics"]["accuracy"] - chosen["metrics"]["accuracy"]
    claims = [
        Claim("a file meets the budget", float(report["met"]), "==", 1),
        Claim("it is int8", float(chosen["precision"] == "int8"), "==", 1),
        Claim("test accuracy of the teacher's file", reference["metrics"]["accuracy"], ">=", 0.975, "{:.2%}"),
        Claim("accuracy lost against it", drop, "<=", 0.01, "{:.2%}"),
        Claim("faster than it", p50_ms(reference) / p50_ms(chosen), ">=", 4, "{:.2f}x"),
        Claim("smaller than it", reference["size_bytes"] / chosen["size_bytes"], ">=", 10, "{:.1f}x"),
        Claim("faster than the pruned float file", p50_ms(pruned) / p50_ms(chosen), ">=", 1.4, "{:.2f}x"),
        Claim("smaller than the pruned float file", pruned["size_bytes"] / chosen["size_bytes"], ">=", 3, "{:.2f}x"),
    ]
    return save_result("digits", lines, claims, report["notes"])


if __name__ == "__main__":
    finish(main)
