"""The report of a bare file, in the form of every other report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.bare.asked import Asked
from compress.bare.files import GIVEN, File
from compress.bare.judge import Judge
from compress.bare.measure import Measured, choose, weigh
from compress.environment import environment
from compress.quantization.ladder import Rung
from compress.store import file_sha256
from compress.targets.emissions import UNCALIBRATED_EMISSIONS
from compress.targets.settings import TargetSettings


def content_of(
    model: Path,
    files: Sequence[File],
    rungs: Sequence[Rung],
    chosen: Rung | None,
    measured: Measured,
    *,
    judge: Judge,
    asked: Asked,
    target: TargetSettings,
    notes: Sequence[str],
) -> dict[str, Any]:
    """The content of `report.json`."""
    deploy, reasons = choose(files, measured, asked.budget)
    losses = [item.judged.loss for item in files if item.name in UNCALIBRATED_EMISSIONS]
    loss = min(losses if chosen is None else [chosen.loss, *losses])
    met = loss <= asked.budget
    int8 = weigh(files, measured, asked.budget)
    return {
        "name": model.stem,
        "met": met,
        "reference": GIVEN,
        "reference_row": GIVEN,
        "deploy": deploy,
        "judged": deploy,
        "deploy_reason": reasons[0],
        "reasons": reasons,
        "int8": None if int8 is None else int8.as_json(),
        "primary_metric": {"name": judge.metric, "higher_is_better": judge.classes},
        "split": "given",
        "target": target.name,
        "models": [_row(item, measured, target, rungs, kept=chosen, judge=judge) for item in files],
        "budget": [{"name": "loss", "limit": asked.budget, "value": loss, "met": met}],
        "steps": [],
        "notes": [*notes, *measured.profile.notes],
        "environment": environment(),
    }


def _row(
    item: File, measured: Measured, target: TargetSettings, rungs: Sequence[Rung], *, kept: Rung | None, judge: Judge
) -> dict[str, Any]:
    latencies = measured.profile.latencies.get(item.name, [])
    metrics = {judge.metric: item.judged.value}
    row: dict[str, Any] = {
        "name": item.name,
        "stage": "quantize" if item.is_int8 else "export",
        "kind": "onnx",
        "precision": item.precision,
        "profile": item.name,
        "path": item.path.name,
        "sha256": file_sha256(item.path),
        "size_bytes": item.path.stat().st_size,
        "int8_share": None if item.share is None else item.share.share,
        "metrics": metrics,
        "validation": metrics,
        "latency": [{**latency.row(), "target": target.name} for latency in latencies],
        "parent": None if item.name == GIVEN else GIVEN,
    }
    if item.is_int8:
        if kept is not None and item.name not in UNCALIBRATED_EMISSIONS:
            row["quantization"] = {"kept": kept.name, "rungs": [rung.row() for rung in rungs]}
        row["not_int8"] = [] if item.share is None else list(item.share.not_int8)
        row["parity"] = None if item.parity is None else item.parity.as_json()
    if item.name in measured.operators:
        row["operators"] = measured.operators[item.name]
    return row
