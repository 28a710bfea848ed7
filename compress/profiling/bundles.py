"""The profile of all files of a pipeline on one target, as a step of a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from compress.bundle import Bundle, Kind
from compress.profiling.decided import computes_with_integers, profile_until_decided
from compress.profiling.operator_times import layer_channels, operator_times
from compress.profiling.profile import profile
from compress.profiling.statistics import Ratio
from compress.stage import Context, Metrics

PROFILE_FILE = "profile.json"


def profile_bundles(inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
    """Measure all inputs side by side on the context's target; write `profile.json` into `out`.

    Where it may be chance whether int8 or float is faster, they are measured again, with more rounds. The record holds
    under `latency` the rows of each file by its name, under `operators` its kinds of operators and what they take,
    under `channels` those of its layers, and `notes` on how far the times can be trusted. Where the target was lost on
    the way it holds what was measured until then, and `incomplete`: it is measured again next time.
    """
    if context.target is None:
        raise ValueError("a profile needs a target")
    files = {name: bundle.model_file for name, bundle in inputs.items()}
    sizes = {name: bundle.deployment.extra.get("sizes", {}) for name, bundle in inputs.items()}
    onnx_files = {name: bundle.model_file for name, bundle in inputs.items() if bundle.kind is Kind.ONNX}
    if context.rehearsal:
        measured = profile(files, context.target, sizes=sizes, rehearsal=True, progress=context.progress)
    else:
        integer = {name for name, path in onnx_files.items() if computes_with_integers(path)}
        measured = profile_until_decided(files, context.target, integer, sizes=sizes, progress=context.progress)
    repeat = measured.repeat
    operators = {}
    lost = str(measured.machine.get("incomplete", ""))
    if not context.rehearsal and not lost and not context.target.perf_test:
        operators = operator_times(files, context.target, sizes=sizes, progress=context.progress)
    mark = {"emulated": True} if measured.machine.get("emulated") else {}
    found: Metrics = {
        "latency": {name: [latency.row() | mark for latency in rows] for name, rows in measured.items()},
        "operators": operators,
        "channels": {name: layer_channels(path) for name, path in onnx_files.items()},
        "notes": list(measured.notes),
        "repeat": None if repeat is None else _repeat(repeat),
        "machine": measured.machine,
    }
    if lost:
        found["incomplete"] = lost
    (out / PROFILE_FILE).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return found


def _repeat(repeat: Ratio) -> Metrics:
    """Without ends where there were too few rounds for an interval."""
    known = repeat.high < float("inf")
    return {
        "value": repeat.value,
        "low": repeat.low if known else None,
        "high": repeat.high if known else None,
    }
