"""`compress quantize MODEL.onnx`: the ladder's methods without training, on a bare file, with the file's own proof."""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from compress.bare.asked import Asked, calibrated, emissions_of, is_symmetric
from compress.bare.content import content_of
from compress.bare.files import write_files
from compress.bare.judge import Judge
from compress.bare.measure import measure
from compress.bare.samples import Samples, inputs_of, read_samples
from compress.errors import UsageError
from compress.exporting.rounded import useless
from compress.quantization.bare_file import open_float
from compress.quantization.ladder import Ladder, Options, Rung
from compress.quantization.outputs import OutputError, runnable
from compress.quantization.template import template_of
from compress.report.write import JSON_FILE, write_report
from compress.stage import Progress, Silent
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings

BATCH = 16
CALIBRATION_SAMPLES = 512
_SILENT = Silent()


@dataclass(frozen=True)
class QuantizedFile:
    """What came of a bare file.

    `deploy` names the file of `files` to deploy, `reasons` say why; `met` whether an int8 file is within the budget;
    `report` is the content of `report.json`.
    """

    folder: Path
    files: dict[str, Path]
    deploy: str
    met: bool
    reasons: tuple[str, ...]
    report: dict[str, Any] = field(repr=False)


def quantize_file(
    model: Path,
    samples: Path | Mapping[str, NDArray[Any]],
    out: Path,
    asked: Asked | None = None,
    *,
    target: str | TargetSettings = "local",
    progress: Progress = _SILENT,
) -> QuantizedFile:
    """Quantize a float ONNX file for a target, prove it, measure it, and write files and report into `out`.

    Half of the samples (at most 512) set ranges, the others judge. The ladder goes up until the loss is within the
    budget. Each file is linted, held against the canonical graph, counted, and measured beside the file given.

    Raises:
        UsageError: The file is no float ONNX graph that can be quantized, samples do not fit, a name is unknown.
        StageError: A file that was made breaks the rules of its kind or does not give the canonical graph's answers.
    """
    asked = asked or Asked()
    place = read_target(target, Path()) if isinstance(target, str) else target
    names = emissions_of(asked, place)
    _check_place(out)
    progress.say(f"reading {model.name}")
    floating = open_float(model)
    ranges = calibrated(names)
    template = template_of(floating, asked.ignore, symmetric=is_symmetric(asked, names)) if ranges else None
    _check_uncalibrated(floating, names, asked.ignore)
    inputs = inputs_of(floating)
    calibration, judging, notes = _halves(read_samples(samples, inputs, asked.images))
    fixed = inputs[0].shape[0]
    feeds = calibration.batches(fixed or BATCH, fixed=fixed is not None)
    judge = Judge(floating, judging, fixed or BATCH, fixed=fixed is not None)
    rungs: Sequence[Rung] = ()
    if template is not None:
        options = Options(
            symmetric=template.symmetric,
            weight_bits=asked.bits(names),
            method=asked.calibration,
            rungs=asked.rungs,
            adaround_iterations=asked.adaround_iterations,
            seed=asked.seed,
        )
        ladder = Ladder(template, lambda: feeds, OutputError(floating, lambda: feeds), options, progress)
        rungs = ladder.climb(lambda found: judge(runnable(found.canonical)).loss, asked.budget)
    chosen = min(rungs, key=lambda rung: (rung.loss > asked.budget, rung.loss), default=None)
    canonical = None if chosen is None else chosen.result.canonical
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantize-") as scratch:
        folder = Path(scratch) / "out"
        files = write_files(folder, model, floating, canonical, names, judge, asked.ignore)
        measured = measure(files, place, asked.shapes, progress)
        content = content_of(model, files, rungs, chosen, measured, judge=judge, asked=asked, target=place, notes=notes)
        write_report(content, folder)
        _publish(folder, out)
    found = {item.name: out / item.path.name for item in files}
    return QuantizedFile(out, found, content["deploy"], content["met"], tuple(content["reasons"]), content)


def _check_uncalibrated(floating: ModelProto, names: Sequence[str], ignore: Sequence[str]) -> None:
    """Nothing, unless files without calibration are asked for that hold no integers.

    Raises:
        UsageError: they are, or a glob matches no layer.
    """
    layers = [node.name for node in floating.graph.node]
    for glob in ignore:
        if not fnmatch.filter(layers, glob):
            raise UsageError(f"--ignore: {glob!r} matches no operator")
    for name in names:
        if reason := useless(floating, name, ignore):
            raise UsageError(f"--emit {name}: {reason}")


def _check_place(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / JSON_FILE).is_file())):
        raise UsageError(f"--out: {out} holds other things; give a folder that is new or empty")


def _halves(samples: Samples) -> tuple[Samples, Samples, list[str]]:
    """What sets ranges, what judges, and what to say of it."""
    count = len(samples)
    if count < 2:
        return samples, samples, ["there is one sample only: what sets the ranges also judges the loss"]
    half = min(count // 2, CALIBRATION_SAMPLES)
    order = samples.shuffled()
    said = f"{half} samples set the ranges, {count - half} others judge the loss"
    few = f"; the loss is known to {1 / (count - half):.1%} at best" if count - half < 200 else ""
    return order.part(slice(0, half)), order.part(slice(half, None)), [said + few]


def _publish(folder: Path, out: Path) -> None:
    """Put a finished folder in the place of an older one of ours."""
    if out.exists():
        shutil.rmtree(out)
    folder.rename(out)
