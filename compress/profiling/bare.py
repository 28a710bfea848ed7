"""`compress profile MODEL.onnx`: any ONNX file, no pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from compress.errors import UsageError
from compress.profiling.latency import TAILS
from compress.profiling.profile import profile_file
from compress.stage import Progress
from compress.targets.reading import read_target


def profile_bare_file(
    path: Path, target: str, batches: Sequence[int], shapes: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """Measure a file on a target; `shapes` are texts such as `sequence=128`. Returns rows and notes as plain data.

    Raises:
        UsageError: The file, the target or a shape is wrong.
        StageError: The model fails when it is run.
    """
    settings = read_target(target, Path())
    if batches:
        settings = settings.model_copy(update={"batches": tuple(batches)})
    measured = profile_file(path, settings, shapes=dict(map(axis, shapes)), progress=progress)
    rows = [latency.row() for latency in measured[path.name]]
    return {"model": path.name, "size_bytes": path.stat().st_size, "latency": rows, "notes": list(measured.notes)}


def axis(text: str) -> tuple[str, int]:
    """A name and a size from `sequence=128`. Raises UsageError for anything else."""
    name, equals, size = text.partition("=")
    if not (name and equals and size.isdigit() and int(size) > 0):
        raise UsageError(f"--shape {text}: write the name of an axis and its size, such as sequence=128")
    return name, int(size)


def latency_table(name: str, measured: dict[str, Any]) -> Table:
    """What `profile_bare_file` gave, for a terminal."""
    table = Table(
        title=f"{name}, {measured['size_bytes'] / 1e6:.2f} MB", title_justify="left", box=None, pad_edge=False
    )
    times = ("p50 ms", "95 %", "p90 ms", "p99 ms", "examples/s")
    for heading in ("threads", "batch", *times, "memory MB", "load ms", "samples"):
        table.add_column(heading, justify="right")
    for row in measured["latency"]:
        ends = row["p50_ci95_ms"]
        table.add_row(
            str(row["threads"]),
            str(row["batch"]),
            f"{row['p50_ms']:.4g}",
            "too few rounds" if ends is None else f"{ends[0]:.4g}-{ends[1]:.4g}",
            *("-" if row[key] is None else f"{row[key]:.4g}" for key in TAILS),
            f"{row['throughput_per_s']:.0f}",
            f"{row['peak_memory_bytes'] / 1e6:.1f}",
            f"{row['load_ms']:.1f}",
            str(row["samples"]),
        )
    table.caption = "\n".join([*_said(measured["latency"]), *measured["notes"]]) or None
    return table


def _said(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the slow end's percentiles are, throughput at other batch sizes, and energy where the machine counts it."""
    first = rows[0]
    if first["mode"] == "quick":
        said = ["p90 and p99 are those of the calls made (mode: quick)"]
    else:
        said = ["p90 and p99 are at most these at 99 % confidence (MLPerf's early stopping)"]
        reasons = {f"{key.partition('_')[0]}: {why}" for row in rows for key, why in row["not_established"].items()}
        said += sorted(reasons)
    if len(first["offline"]) > 1:
        speeds = [f"{bulk['examples_per_second']:.0f} at batch {bulk['batch']}" for bulk in first["offline"]]
        said.append(f"examples/s: {', '.join(speeds)}")
    for source, millijoules in (first["energy_mj"] or {}).items():
        said.append(f"energy, idle included: {millijoules:.4g} mJ an example ({source})")
    return said
