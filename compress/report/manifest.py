"""The folder of artifacts: files named for what they are, `manifest.json`, and examples that run them.

All of it is the same bytes whenever and wherever the same models are written: no time, host or path is in it. What was
measured of the files is added from the report, once there is one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from compress.bundle import BUNDLE_FILE, Deployment
from compress.report.measured import made_with, measured, purpose
from compress.report.minimal import MINIMAL_FILE, minimal_example
from compress.report.write import json_text, remove, replacing, without_nan
from compress.store import file_sha256, folder_sha256

MANIFEST_FILE, EXAMPLE_FILE, PREPROCESSING_FILE = "manifest.json", "example.py", "preprocessing.py"
PROGRAMS = {
    MINIMAL_FILE: "about ten lines that run the file to deploy",
    EXAMPLE_FILE: "runs any of the files on examples of yours",
    PREPROCESSING_FILE: "does the preprocessing that the manifest lists, with NumPy",
}
"""What lies beside the files and runs them, and what for."""
SUFFIXES = {"onnx": ".onnx", "engine": ".engine"}
BESIDE = {
    "config.json": "the network's configuration and class names, for transformers and optimum",
    "tokenizer.json": "the tokenizer",
    "tokenizer_config.json": "special tokens and lengths, for transformers' AutoTokenizer",
    "preprocessor_config.json": "the preprocessing, for transformers' AutoImageProcessor",
}
"""What lies beside a model that is no part of what compression makes small."""


@dataclass(frozen=True)
class ArtifactFile:
    """What is to lie in the folder: a bundle of kind `onnx` or `engine`, or a model file.

    `model` is the network's name in the pipeline, `profile` the emission (`fp32`, `ort-x86`, ...); `name`, where given,
    is taken instead of the one made from them.
    """

    source: Path
    model: str
    deployment: Deployment
    precision: str
    profile: str
    kind: str = "onnx"
    name: str = ""


@dataclass(frozen=True)
class Artifact:
    """What lies there: `path` is that of a file, or of a folder where a model has several, relative to the folder.

    `size_bytes` is the model's alone, without what `BESIDE` names.
    """

    name: str
    path: str
    model_path: str
    sha256: str
    size_bytes: int


def write_artifacts(folder: Path, files: Sequence[ArtifactFile]) -> list[Artifact]:
    """Copy `files` into `folder` under their names, in this order; write manifest and example; drop what was stale.

    Each file is replaced by rename, the manifest last. Only files that an earlier manifest lists are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _listed(folder)
    artifacts = [_copy(folder, file, name) for file, name in zip(files, artifact_names(files), strict=True)]
    for stale in before - {artifact.path for artifact in artifacts}:
        remove(folder / stale)
    here = Path(__file__).parent
    for source in (here / EXAMPLE_FILE, here.parent / "data" / PREPROCESSING_FILE):
        with replacing(folder / source.name) as scratch:
            scratch.write_bytes(source.read_bytes())
    entries = [_entry(folder, file, artifact) for file, artifact in zip(files, artifacts, strict=True)]
    _write_manifest(folder, {"format": 1, "deploy": None, "files": entries})
    return artifacts


def tell_measured(folder: Path, report: Mapping[str, Any]) -> None:
    """Add to the manifest what `report.json` says: what was measured of each file and where, and which one to deploy.

    The versions that made them are told too. `minimal.py` then runs the file to deploy. Entries have the names of the
    report's rows.
    """
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    rows = {row["name"] for row in report["models"]}
    for entry in manifest["files"]:
        if entry["name"] in rows:
            entry["measured"] = without_nan(measured(report, entry["name"]))
    _write_manifest(folder, {**manifest, "deploy": report["deploy"], "versions": made_with(report)})


def with_programs(manifest: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest with its `programs`, and their texts by name.

    `minimal.py` is for the file to deploy, or else the first; the others are as they lie in `folder`.
    """
    runnable = [entry for entry in manifest["files"] if entry["kind"] == "onnx"]
    first = next((entry for entry in runnable if entry["name"] == manifest["deploy"]), next(iter(runnable), None))
    texts = {name: (folder / name).read_bytes() for name in (EXAMPLE_FILE, PREPROCESSING_FILE)}
    if first is not None:
        texts[MINIMAL_FILE] = minimal_example(first).encode()
    programs = [
        {
            "path": name,
            "for": use,
            "sha256": hashlib.sha256(texts[name]).hexdigest(),
            "size_bytes": len(texts[name]),
        }
        for name, use in PROGRAMS.items()
        if name in texts
    ]
    return {**manifest, "programs": programs}, texts


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The manifest last: it names the digests of what lies beside it."""
    whole, texts = with_programs(manifest, folder)
    if MINIMAL_FILE in texts:
        with replacing(folder / MINIMAL_FILE) as scratch:
            scratch.write_bytes(texts[MINIMAL_FILE])
    else:
        remove(folder / MINIMAL_FILE)
    with replacing(folder / MANIFEST_FILE) as scratch:
        scratch.write_text(json_text(whole) + "\n", encoding="utf-8", newline="\n")


def artifact_names(files: Sequence[ArtifactFile]) -> list[str]:
    """`student-int8-ort-x86`, `student-fp32`; a second of the same name gets `-2`."""
    names: list[str] = []
    for file in files:
        kind = file.precision if file.profile == file.precision else f"{file.precision}-{file.profile}"
        name = wanted = _file_name(file.name or f"{file.model}-{kind}")
        number = 2
        while name in names:
            name, number = f"{wanted}-{number}", number + 1
        names.append(name)
    return names


def digest(path: Path) -> str:
    """The sha256 of a file, or of a folder: that of its sorted list of files and hashes."""
    return folder_sha256(path) if path.is_dir() else file_sha256(path)


def size_bytes(path: Path) -> int:
    """The size of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [child for child in path.rglob("*") if child.is_file()]
    return sum(file.stat().st_size for file in files)


def _copy(folder: Path, file: ArtifactFile, name: str) -> Artifact:
    """A bundle of one file becomes that file; one with more (external weights, a tokenizer) stays a folder."""
    model = file.source / f"model{SUFFIXES[file.kind]}" if file.source.is_dir() else file.source
    parts = (
        sorted(path for path in file.source.iterdir() if path.name != BUNDLE_FILE) if file.source.is_dir() else [model]
    )
    if parts == [model]:
        path = model_path = f"{name}{SUFFIXES[file.kind]}"
        with replacing(folder / path) as scratch:
            shutil.copyfile(model, scratch)
    else:
        path, model_path = name, f"{name}/{model.name}"
        with replacing(folder / path) as scratch:
            shutil.copytree(file.source, scratch, ignore=lambda _, names: {BUNDLE_FILE} & set(names))
            remove(folder / path)
    beside = sum(size_bytes(folder / path / extra) for extra in BESIDE if (folder / path / extra).is_file())
    return Artifact(name, path, model_path, digest(folder / path), size_bytes(folder / path) - beside)


def _entry(folder: Path, file: ArtifactFile, artifact: Artifact) -> dict[str, Any]:
    deployment = file.deployment.as_json()
    return {
        "name": artifact.name,
        "path": artifact.path,
        "model": artifact.model_path,
        "kind": file.kind,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "precision": file.precision,
        "profile": file.profile,
        "for": purpose(file.profile),
        "contents": _contents(folder / artifact.path, artifact),
        "task": _without_folders(deployment["task"]),
        "inputs": deployment["inputs"],
        "outputs": deployment["outputs"],
        "preprocessing": deployment["preprocessing"],
        "labels": deployment["labels"],
        **({"extra": _without_folders(deployment["extra"])} if deployment["extra"] else {}),
    }


def _contents(path: Path, artifact: Artifact) -> list[dict[str, Any]]:
    """Each file, relative to the folder of artifacts, and what it is for; of a model of one file that one."""
    files = [path] if path.is_file() else sorted(child for child in path.rglob("*") if child.is_file())
    found = []
    for file in files:
        name = artifact.path if file == path else f"{artifact.path}/{file.relative_to(path).as_posix()}"
        use = "the model" if name == artifact.model_path else BESIDE.get(file.name, "part of the model")
        found.append({"path": name, "for": use, "sha256": file_sha256(file), "size_bytes": file.stat().st_size})
    return found


def _without_folders(value: Any) -> Any:
    """Absolute paths (of a user's own task, `/home/me/task.py:make`) down to the name of the file."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def _file_name(name: str) -> str:
    """A name that every file system takes."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".-") or "model"


def _listed(folder: Path) -> set[str]:
    """Paths inside `folder` that an earlier manifest lists."""
    try:
        entries = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
        paths = {str(entry["path"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours: nothing to remove
        return set()
    return {path for path in paths if path == Path(path).name and path not in (".", "..")}
