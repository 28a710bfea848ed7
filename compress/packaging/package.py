"""What goes into the archive of a run: the files asked for, their manifest and programs, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.errors import UsageError
from compress.packaging.archive import TAR, Content, write_archive
from compress.report.manifest import MANIFEST_FILE, digest, with_programs
from compress.report.write import CARD_FILE, JSON_FILE, PAGE_FILE, json_text, read_report
from compress.stage import Progress, Silent

ARTIFACTS = "artifacts"
CARD, REPORT_FOLDER = "README.md", "report"
"""What the model card is called in the archive, and where the report lies."""
_SILENT = Silent()


def package(
    run: Path, out: Path | None = None, names: Sequence[str] = (), *, every: bool = False, progress: Progress = _SILENT
) -> Path:
    """Write one archive of a run's folder; returns its path.

    It holds the file to deploy (or those called `names`, or `every` one) with `manifest.json`, the programs beside it,
    the model card, the report and `SHA256SUMS`. The same run gives the same bytes.

    Args:
        run: such as `runs/digits`.
        out: ends in `.tar.gz` or `.zip`; by default the run's name in the working folder.
        names: names of files, as the report has them, or their paths below `artifacts/`.
        every: all files.
        progress: told of each MB.

    Raises:
        UsageError: there is no report, no such file, files have changed since, or `out` is there already.
    """
    report, manifest = read_report(run), _read_manifest(run / ARTIFACTS)
    entries = _chosen(manifest["files"], report, names, every)
    _require_unchanged(run, [*entries, *manifest.get("programs", ())], report)
    chosen, programs = with_programs({**manifest, "files": entries}, run / ARTIFACTS)
    members: dict[str, Content] = {**programs, MANIFEST_FILE: (json_text(chosen) + "\n").encode()}
    for entry in entries:
        members |= _files_of(run / ARTIFACTS, entry["path"])
    for name, place in {CARD_FILE: CARD, PAGE_FILE: f"{REPORT_FOLDER}/{PAGE_FILE}"}.items():
        if (run / name).is_file():
            members[place] = run / name
    members[f"{REPORT_FOLDER}/{JSON_FILE}"] = run / JSON_FILE
    path = Path(f"{run.resolve().name}{TAR}") if out is None else out
    write_archive(path, str(report["name"]), members, progress)
    return path


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / MANIFEST_FILE}: cannot be read ({error}); run the pipeline again") from error
    return manifest


def _chosen(
    entries: Sequence[dict[str, Any]], report: Mapping[str, Any], names: Sequence[str], every: bool
) -> list[dict[str, Any]]:
    """The manifest's entries that go in, in its order."""
    if every and names:
        raise UsageError("package: --all takes every file; leave --file out")
    if not every and not names and report["deploy"] is None:
        raise UsageError("package: no file is within the budget, so that none is to deploy; name one with --file")
    wanted = list(names) or [str(report["deploy"])]
    known = {key: entry["name"] for entry in entries for key in (entry["path"], entry["name"])}
    if not every and (unknown := [name for name in wanted if name not in known]):
        said = ", ".join(entry["name"] for entry in entries)
        raise UsageError(f"package: the run has no file called {unknown[0]!r}; it has {said}")
    kept = {known[name] for name in wanted} if not every else {entry["name"] for entry in entries}
    return [entry for entry in entries if entry["name"] in kept]


def _require_unchanged(run: Path, listed: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> None:
    """Files are those whose digests the manifest and the report tell."""
    reported = {row["path"]: row["sha256"] for row in report["models"] if row.get("path")}
    for entry in listed:
        path = run / ARTIFACTS / entry["path"]
        told = {entry["sha256"], reported.get(f"{ARTIFACTS}/{entry['path']}", entry["sha256"])}
        if not path.exists():
            raise UsageError(f"{path}: is listed and missing; run the pipeline again, which puts it back")
        if told != {digest(path)}:
            raise UsageError(
                f"{path}: has changed since it was measured, so that the report is not about it; run the pipeline "
                "again, which puts the file back"
            )


def _files_of(artifacts: Path, name: str) -> dict[str, Content]:
    path = artifacts / name
    files = [path] if path.is_file() else [child for child in path.rglob("*") if child.is_file()]
    return {file.relative_to(artifacts).as_posix(): file for file in files}
