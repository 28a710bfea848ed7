"""The profile of all files of a pipeline on one target, as a step of a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from compress.bundle import Bundle, Kind
from compress.profiling.operator_times import layer_channels, operator_times
from compress.profiling.profile import profile
from compress.stage import Context, Metrics

PROFILE_FILE = "profile.json"


def profile_bundles(inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
    """Measure all inputs side by side on the context's target; write `profile.json` into `out`.

    The record holds under `latency` the rows of each file by its name, under `operators` its kinds of operators and
    what they take, under `channels` those of its layers, and `notes` on how far the times can be trusted. Where the
    target was lost on the way it holds what was measured until then, and `incomplete`: it is measured again next time.
    """
    if context.target is None:
        raise ValueError("a profile needs a target")
    files = {name: bundle.model_file for name, bundle in inputs.items()}
    sizes = {name: bundle.deployment.extra.get("sizes", {}) for name, bundle in inputs.items()}
    measured = profile(files, context.target, sizes=sizes, rehearsal=context.rehearsal, progress=context.progress)
    repeat = measured.repeat
    operators = {}
    lost = str(measured.machine.get("incomplete", ""))
    if not context.rehearsal and not lost and not context.target.perf_test:
        operators = operator_times(files, context.target, sizes=sizes, progress=context.progress)
    onnx_files = {name: bundle.model_file for name, bundle in inputs.items() if bundle.kind is Kind.ONNX}
    mark = {"emulated": True} if measured.machine.get("emulated") else {}
    found: Metrics = {
        "latency": {name: [latency.row() | mark for latency in rows] for name, rows in measured.items()},
        "operators": operators,
        "channels": {name: layer_channels(path) for name, path in onnx_files.items()},
        "notes": list(measured.notes),
        "repeat": None if repeat is None else {"value": repeat.value, "low": repeat.low, "high": repeat.high},
        "machine": measured.machine,
    }
    if lost:
        found["incomplete"] = lost
    (out / PROFILE_FILE).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return found
