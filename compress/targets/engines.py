"""An engine of TensorRT as a bundle: what is asked of the target, and what is kept for the next build."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.bundle import Bundle, Deployment, Kind, write_bundle
from compress.data.locations import cache_folder
from compress.stage import Context, Metrics, Progress
from compress.targets.jobs import run_jobs
from compress.targets.measuring.axes import batch_names
from compress.targets.measuring_tensorrt.build import PROGRESS
from compress.targets.settings import TargetSettings
from compress.targets.target import fingerprint
from compress.targets.tensorrt_settings import RUNTIME

if TYPE_CHECKING:
    from compress.targets.stage import Engine


def build_bundle(stage: Engine, source: Bundle, out: Path, context: Context) -> Metrics:
    """Build the engine of `source` on the context's target; write `engine.plan` and `engine.json` into `out`.

    Raises:
        UsageError: The file is none that TensorRT reads, an axis needs a size, or TensorRT or a GPU is missing.
        StageError: The GPU's memory does not suffice, or TensorRT finds no kernels.
    """
    if context.target is None:
        raise ValueError("an engine is built on a target")
    target, bundle = context.target, write_bundle(out, Kind.ENGINE, source.deployment)
    axes = axis_ranges(source.deployment, stage.shapes)
    request = {"batches": list(stage.batches), "axes": axes, "workspace_mib": stage.workspace_mib}
    name = f"engine on {target.name}"
    asked = {**request, "parse_only": context.rehearsal}
    result = _built(source.model_file, bundle.model_file, asked, target, name, context.progress)
    if context.rehearsal:
        return {}
    notes = [f"{name}: {note}" for note in result["notes"]]
    return {"engine": result["made"], "build_seconds": result["seconds"], "notes": notes}


@contextmanager
def runnable(
    files: Mapping[str, Path],
    target: TargetSettings,
    axes: Mapping[str, Mapping[str, int]],
    progress: Progress,
) -> Iterator[Mapping[str, Path]]:
    """The files that a target can run: ONNX files themselves, or with TensorRT engines of them, built for the time.

    `axes` are the sizes of each file's dynamic axes but the batch.
    """
    from compress.targets.stage import Engine

    models = [name for name, path in files.items() if path.suffix != ".plan"]
    if target.runtime != RUNTIME or not models:
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="compress-engines-") as folder:
        found = dict(files)
        for number, name in enumerate(models):
            found[name] = Path(folder) / str(number) / "engine.plan"
            found[name].parent.mkdir()
            asked = {
                "batches": list(Engine.of(target).batches),
                "axes": {axis: [1, size, size] for axis, size in axes[name].items()},
                "workspace_mib": target.workspace_mib,
            }
            _built(files[name], found[name], asked, target, name, progress)
        yield found


def _built(
    model: Path, engine: Path, asked: Mapping[str, Any], target: TargetSettings, name: str, progress: Progress
) -> dict[str, Any]:
    """Build `engine`, and `engine.json` beside it; what the program says of it. `name` is for messages."""
    limit = asked["workspace_mib"]
    request = {
        **{key: value for key, value in asked.items() if key != "workspace_mib"},
        "engine": str(engine),
        "facts": str(engine.with_suffix(".json")),
        "workspace_bytes": None if limit is None else limit * 2**20,
    }
    with timing_cache(target) as files, told_progress(progress, name) as told:
        request["timing_cache"] = None if asked.get("parse_only") else files
        done, _ = run_jobs(target, {name: {"model": str(model), "build": request}}, progress, told)
    return done[name]


def axis_ranges(deployment: Deployment, shapes: dict[str, int]) -> dict[str, list[int]]:
    """For each dynamic axis but the batch the least size, the one to be fastest at, and the largest.

    The target's `shapes` say the second, else the sizes at which the file is timed anyway; texts may be as long as the
    tokenizer cuts them. An axis of which no size is known is left out: the program on the target says what it needs.
    """
    inputs: dict[str, list[Any]] = {spec.name: list(spec.shape) for spec in deployment.inputs}
    batch = batch_names(inputs, {})
    dynamic = {axis for shape in inputs.values() for axis in shape if isinstance(axis, str)} - batch
    sizes = {**deployment.extra.get("sizes", {}), **shapes}
    longest = deployment.extra.get("tokenizer", {}).get("max_length", 0)
    return {axis: [1, sizes[axis], max(sizes[axis], longest)] for axis in sorted(dynamic & sizes.keys())}


@contextmanager
def timing_cache(target: TargetSettings) -> Iterator[dict[str, str | None] | None]:
    """The files of a build's timing cache, to read and to write; what was written is kept for this kind of place."""
    if not target.timing_cache:
        yield None
        return
    kept = cache_folder() / "tensorrt" / f"{fingerprint(target)[:32]}.timing"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        written = Path(folder) / "written.timing"
        yield {"read": str(kept) if kept.is_file() else None, "write": str(written)}
        if written.is_file():
            written.replace(kept)


@contextmanager
def told_progress(progress: Progress, name: str) -> Iterator[Callable[[str], None]]:
    """Makes a bar of what the program says of its phases: the latest of them, begun anew when another follows."""
    with progress.task(name, None) as advance:

        def told(line: str) -> None:
            if line.startswith(PROGRESS):
                said = json.loads(line.removeprefix(PROGRESS))
                advance(0, note=f"{said['phase']}: {said['step']} of {said['steps']}")

        yield told
