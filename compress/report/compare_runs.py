"""`compress compare runs/a runs/b`: finished runs read, and put beside each other as data, text and a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.errors import Fault, UsageError
from compress.report.reading import read_rows
from compress.report.runs_compared import Compared, Difference, Run, comparisons, settings_that_differ
from compress.report.words import metric_name
from compress.report.write import read_report, without_nan


@dataclass(frozen=True)
class RunsCompared:
    """Runs, the first of which the others are held against; what differs between them, and what came of it."""

    runs: tuple[Run, ...]
    settings: tuple[Difference, ...]
    compared: tuple[Compared, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target of a run."""
        return tuple(dict.fromkeys(target for run in self.runs for target in run.report.targets))

    def verdicts(self) -> tuple[str, ...]:
        """A line for each number of each run but the first."""
        first = self.runs[0].name
        lines = []
        for one in self.compared:
            where = f" on {one.target}" if one.target else ""
            lines.append(f"{one.run} against {first}, {metric_name(one.what)}{where}: {one.said}")
        return tuple(lines)

    def as_json(self) -> dict[str, Any]:
        """Plain data: everything in full."""
        plain: dict[str, Any] = without_nan(
            {
                "runs": [_run_json(run) for run in self.runs],
                "settings": [{"setting": one.setting, "values": list(one.values)} for one in self.settings],
                "compared": [one.as_json() for one in self.compared],
            }
        )
        return plain


def compare_runs(folders: Sequence[Path]) -> RunsCompared:
    """The runs in these folders; the others are held against the first.

    Raises:
        UsageError: fewer than two, or a folder without a report that this version reads; all faults at once.
    """
    if len(folders) < 2:
        raise UsageError("name at least two runs to compare, such as: compress compare runs/a runs/b")
    names = _names(folders)
    faults: list[Fault] = []
    runs = []
    for folder, name in zip(folders, names, strict=True):
        try:
            content = read_report(folder)
        except UsageError as error:
            faults += error.faults
            continue
        try:
            runs.append(Run(name, read_rows(content)))
        except UsageError as error:
            faults += [Fault(f"{folder}: {fault.message}") for fault in error.faults]
    if faults:
        raise UsageError(faults)
    return RunsCompared(tuple(runs), tuple(settings_that_differ(runs)), tuple(comparisons(runs)))


def _names(folders: Sequence[Path]) -> list[str]:
    """Names of folders; where two are the same, as much of the path as tells them apart, and then a number."""
    short = [folder.resolve().name for folder in folders]
    if len(set(short)) < len(short):
        common = os.path.commonpath([folder.resolve().parent.parent for folder in folders])
        short = [folder.resolve().relative_to(common).as_posix() for folder in folders]
    return [
        f"{name} ({short[:at].count(name) + 1})" if short.count(name) > 1 else name for at, name in enumerate(short)
    ]


def _run_json(run: Run) -> dict[str, Any]:
    report = run.report
    found: dict[str, Any] = {"name": run.name, "met": report.met, "deploy": report.deploy, "targets": []}
    for target in report.targets:
        model, place = report.told, report.place(target)
        latency = model.on(target) if model is not None else None
        if model is None or latency is None:
            continue
        metrics = model.metrics if target == report.target else model.judged_on(target)
        found["targets"].append(
            {
                "target": target,
                "fingerprint": None if place is None else place.fingerprint,
                "session": None if place is None else place.session,
                "emulated": report.is_emulated(target),
                "file": model.name,
                "size_bytes": model.size_bytes,
                report.metric: metrics.get(report.metric),
                f"{report.metric}_ci95": metrics.get(f"{report.metric}_ci95"),
                "p50_ms": latency.p50_ms,
                "p50_ci95_ms": latency.p50_ci95_ms,
                "p90_ms": latency.p90_ms,
                "p90_ci95_ms": latency.p90_ci95_ms,
                "peak_memory_bytes": latency.peak_memory_bytes,
            }
        )
    return found
