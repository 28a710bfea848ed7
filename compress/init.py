"""`compress init`: a commented pipeline from a few answers, which passes `compress check` as it is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.config import read_pipeline
from compress.data.locations import builtin_folder
from compress.errors import Fault, UsageError
from compress.suggest import listed

Prompt = Callable[[str, str], str]
IMAGES = ("image", "img")
INPUTS = (*IMAGES, "input", "x", "features", "pixels")
TARGETS = ("label", "labels", "target", "y", "class", "fine_label")
_PLAIN = re.compile(r"[A-Za-z0-9_./$~+-][A-Za-z0-9_./$~+ -]*")


@dataclass(frozen=True)
class Answers:
    """What a first pipeline needs to know."""

    data: str = "digits"
    model: str = "resnet8"
    weights: str | None = None
    target: str = "local"
    accuracy_drop: float = 0.01


QUESTIONS = {
    "data": "Data: a built-in name, a folder of images, or a .parquet, .csv, .npz or .yaml file",
    "model": "Network: a zoo name such as resnet20, a hub name or folder, or FILE.py:FUNCTION",
    "weights": "Trained weights of it (empty: the pipeline trains it)",
    "target": "Hardware: a built-in name or a target file",
    "accuracy_drop": "Most accuracy to lose, as a fraction",
}


def ask(given: Mapping[str, Any], *, interactive: bool, prompt: Prompt | None = None) -> Answers:
    """Answers from flags (None: not given), from questions if `interactive`, else from defaults."""
    values = {name: value for name, value in given.items() if value is not None}
    if interactive:
        for name, question in QUESTIONS.items():
            if name not in values:
                default = getattr(Answers, name)
                answer = (prompt or _prompt)(question, "" if default is None else str(default)).strip()
                values[name] = answer or default
    try:
        values["accuracy_drop"] = float(values.get("accuracy_drop", Answers.accuracy_drop))
    except ValueError:
        raise UsageError(f"accuracy_drop must be a number such as 0.01, not '{values['accuracy_drop']}'") from None
    return Answers(**values)


def _prompt(question: str, default: str) -> str:
    import typer

    return str(typer.prompt(question, default=default))


def write_pipeline(path: Path, answers: Answers) -> None:
    """Write a pipeline that passes `compress check`.

    Raises:
        UsageError: the file exists already, or an answer names something that does not; then nothing is written.
    """
    if path.exists():
        raise UsageError(Fault("exists already; name another file, or delete it first", file=str(path)))
    if not path.parent.is_dir():
        raise UsageError(Fault(f"there is no folder {path.parent}", file=str(path)))
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(pipeline_text(path, answers), encoding="utf-8")
        read_pipeline(draft)
        draft.rename(path)
    except UsageError as error:
        own = str(draft)
        raise UsageError([Fault(f.message, f.where, "" if f.file == own else f.file) for f in error.faults]) from None
    finally:
        draft.unlink(missing_ok=True)


def pipeline_text(path: Path, answers: Answers) -> str:
    """The YAML for `answers`, whose paths become relative to the folder of `path`."""
    data, is_values = _data(path.parent, answers)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "pipeline"
    weights = f", weights: {_text(_relative(answers.weights, path.parent))}" if answers.weights else ""
    published = ":" not in answers.model and ("/" in answers.model or Path(answers.model).is_dir())
    train = [("  - train:    {epochs: 30}", "from random weights; not needed with `weights:` above")]
    drop, unit = ("metric_drop", "in the metric's unit") if is_values else ("accuracy_drop", "0.01 is one point")
    lines = [
        (f"name: {name}", "of the run, and of its folder in runs/"),
        ("seed: 0", ""),
        *data,
        *([("task: regression", "the targets are numbers with fractions")] if is_values else []),
        ("models:", "the first is the reference for accuracy and speed"),
        (f"  net: {{{_model(answers.model, path.parent)}{weights}}}", ""),
        ("stages:", "each goes on from the one above it"),
        *([] if weights or published else train),
        ("  - prune:    {keep: {macs: 0.5}, recover: {epochs: 10}}", "half of the work, then training to recover"),
        ("  - quantize: {epochs: 4}", "int8, trained; `epochs: 0` only calibrates"),
        ("  - export:   {emit: auto}", "ONNX files for the targets"),
        (f"targets: [{_text(_relative(answers.target, path.parent))}]", "where files are measured"),
        (f"budget: {{{drop}: {answers.accuracy_drop:g}}}", f"{unit}; also speedup, size_ratio, latency_p50_ms, ..."),
    ]
    return _HEAD.format(file=path.name) + "".join(
        f"{code:<{_COMMENT_COLUMN}}# {comment}\n" if comment else f"{code}\n" for code, comment in lines
    )


_COMMENT_COLUMN = 60
_HEAD = """\
# What each key means: the YAML reference in the README. `compress check {file}` looks for mistakes,
# `compress plan {file}` shows the steps, `compress run {file}` does them and writes a report.
"""
Lines = list[tuple[str, str]]
"""YAML and its comment."""


def _data(folder: Path, answers: Answers) -> tuple[Lines, bool]:
    """The lines under `data:`, and whether the targets are values rather than classes."""
    given = Path(answers.data)
    if answers.data in _builtin("data") or given.suffix in (".yaml", ".yml"):
        return [
            (f"data: {_text(_relative(answers.data, folder))}", "a built-in name or the path of a data file")
        ], False
    if not given.exists():
        names = listed(sorted(_builtin("data")))
        raise UsageError(f"data: '{answers.data}' is no file or folder here, and no built-in name ({names})")
    where = f"path: {_text(_relative(answers.data, folder))}"
    if given.is_dir():
        return _source(f"images: {{{where}}}", images=True), False
    if given.suffix == ".npz":
        return _source(f"npz: {{{where}}}", images=False), _npz_holds_values(given)
    if given.suffix in (".parquet", ".csv", ".tsv", ".arrow"):
        inputs, target = _columns(_column_names(given), given)
        columns = f"input: {_text(inputs[0]) if len(inputs) == 1 else json.dumps(inputs)}, target: {_text(target)}"
        return _source(f"table: {{{where}, {columns}}}", images=inputs[0].lower() in IMAGES), False
    raise UsageError(f"data: '{answers.data}' is none of .parquet, .csv, .tsv, .arrow, .npz, .yaml and no folder")


def _source(source: str, *, images: bool) -> Lines:
    steps = [
        ("  preprocessing:", "the same in training, in calibration and on the device"),
        ("    - color: rgb", ""),
        ("    - resize: 64", "pixels of each side"),
        ("    - scale: 0.00392156862745098", "1 / 255"),
        ("    - normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}", ""),
        ("  augmentation: [flip]", "training images only"),
    ]
    return [("data:", "a validation and a test split are cut where there is none"), (f"  source: {{{source}}}", "")] + (
        steps if images else []
    )


def _model(model: str, folder: Path) -> str:
    if ":" in model:
        file, _, function = model.rpartition(":")
        return f"python: {json.dumps(f'{_relative(file, folder)}:{function}')}"
    if "/" in model or Path(model).is_dir():
        return f"transformers: {_text(_relative(model, folder))}"
    return f"zoo: {_text(model)}"


def _builtin(kind: str) -> set[str]:
    return {path.stem for path in builtin_folder(kind).glob("*.yaml")}


def _relative(text: str, folder: Path) -> str:
    """A path of the working folder as seen from `folder`; anything else as it is."""
    if Path(text).is_absolute() or not Path(text).exists():
        return text
    return Path(os.path.relpath(text, folder)).as_posix()


def _text(text: str) -> str:
    """A YAML scalar that reads as this text."""
    is_plain = _PLAIN.fullmatch(text) and not re.fullmatch(r"[-+.0-9eE]+|true|false|null|~", text, re.IGNORECASE)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _columns(names: list[str], file: Path) -> tuple[list[str], str]:
    """The input columns of a table and its target: by their usual names, or all that are not the target."""
    by_lower = {name.lower(): name for name in reversed(names)}
    target = next((by_lower[usual] for usual in TARGETS if usual in by_lower), None)
    if target is None or len(names) < 2:
        usual = f"a column to learn is called {' or '.join(TARGETS)}"
        raise UsageError(f"data: no column of {file} looks like the target: {usual}, but it has {listed(names)}")
    found = next((by_lower[usual] for usual in INPUTS if usual in by_lower), None)
    return [found] if found else [name for name in names if name != target], target


def _column_names(file: Path) -> list[str]:
    if file.suffix in (".csv", ".tsv"):
        with file.open(encoding="utf-8-sig") as lines:
            header = lines.readline().strip()
        return [name.strip().strip('"') for name in header.split("," if file.suffix == ".csv" else "\t")]
    import pyarrow.dataset

    return list(pyarrow.dataset.dataset(file, format=file.suffix[1:]).schema.names)


def _npz_holds_values(file: Path) -> bool:
    """Whether the targets `y` in a NumPy archive are numbers with fractions, so that the task is regression."""
    import zipfile

    import numpy

    try:
        with numpy.load(file, allow_pickle=False) as arrays:
            return "y" in arrays and arrays["y"].dtype.kind == "f"
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"data: {file} is no NumPy archive: {error}") from None
