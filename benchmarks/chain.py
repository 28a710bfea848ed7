"""A shipped pipeline run as its user runs it, and the files of its report: for benchmarks of whole chains."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, Claim

from compress.config import read_pipeline
from compress.console import ConsoleProgress
from compress.execute import execute
from compress.profiling.latency import Latency
from compress.profiling.profile import compare
from compress.store import Store


@dataclass(frozen=True)
class Chain:
    """The report of a finished run."""

    report: Mapping[str, Any]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """The rows of exported files by their names."""
        return {row["name"]: row for row in self.report["models"] if row["kind"] == "onnx"}

    @property
    def reference(self) -> dict[str, Any]:
        """The float file that others are compared with."""
        return self.files[self.report["reference_row"]]

    @property
    def int8(self) -> dict[str, Any]:
        """The int8 file."""
        return next(row for row in self.files.values() if row["precision"] == "int8")

    def accuracy(self, name: str) -> float:
        """Of a network or a file, on test examples."""
        found: float = next(row for row in self.report["models"] if row["name"] == name)["metrics"]["accuracy"]
        return found

    def lines(self) -> list[dict[str, Any]]:
        """A line for each file."""
        return [
            {
                "file": name,
                "test accuracy": f"{row['metrics']['accuracy']:.2%}",
                "size": f"{row['size_bytes'] / 1e3:.0f} kB",
                **{f"p50 at batch {one.batch}": f"{one.p50_ms:.3f} ms" for one in _latencies(row)},
            }
            for name, row in self.files.items()
        ]

    def faster(self, limit: float) -> list[Claim]:
        """For each batch: how many times faster than the reference the int8 file is, at least `limit`."""
        claims = []
        for before, after in zip(_latencies(self.reference), _latencies(self.int8), strict=True):
            ratio = compare(before, after)
            where = f"batch {after.batch} (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
            claims.append(
                Claim(
                    f"int8 over the float file {self.reference['name']} at {where}", ratio.value, ">=", limit, "{:.2f}x"
                )
            )
        return claims


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Options that every chain has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], help="override a value of the pipeline")
    parser.add_argument("--store", type=Path, default=Path(".compress"))
    return parser


def run(pipeline: str, overrides: list[str], store: Path) -> Chain | None:
    """Run a shipped pipeline, or go on with it; None, and it is said, where its data are not at hand."""
    if "COMPRESS_DATA" not in os.environ:
        print("COMPRESS_DATA is not set: it must name the folder with cifar10/ and models/")
        return None
    settings = read_pipeline(ROOT / "pipelines" / pipeline, overrides)
    outcome = execute(settings, Store(store), Path("runs"), ConsoleProgress())
    assert outcome is not None
    return Chain(outcome.report)


def _latencies(row: dict[str, Any]) -> list[Latency]:
    return [Latency.from_row(found) for found in row["latency"]]
