"""Records -> `runs/<name>/`: files to deploy, PyTorch models, written texts, engines, and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.bundle import Bundle, Kind
from compress.environment import environment
from compress.generation.settings import RESPONSES_FILE
from compress.plan import Plan
from compress.profiling.evaluate import FLIPS_FILE
from compress.report.manifest import ArtifactFile, tell_measured, write_artifacts
from compress.report.summary import summarise
from compress.report.write import replacing, write_report
from compress.rows import Row
from compress.run import Done
from compress.store import Store, file_sha256, folder_sha256
from compress.targets.model_files import model_files

ARTIFACTS, MODELS, TEXTS, ENGINES = "artifacts", "models", "texts", "engines"


def publish(plan: Plan, done: Mapping[str, Done], store: Store, folder: Path) -> dict[str, Any]:
    """Write artifacts, models and report into a run's folder; return the content of `report.json`.

    Files keep their place if their content has not changed; the report is written last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, Any]] = {}
    _write_models(plan, done, store, folder / MODELS, files)
    _write_files(plan, done, store, folder / ARTIFACTS, files)
    _write_texts(plan, done, store, folder / TEXTS)
    _write_engines(plan, done, store, folder / ENGINES)
    report = summarise(plan, done, files, environment(), lambda digest: _shown(store.artifact(digest) / FLIPS_FILE))
    tell_measured(folder / ARTIFACTS, report)
    write_report(report, folder)
    return report


def _write_files(
    plan: Plan, done: Mapping[str, Done], store: Store, folder: Path, files: dict[str, dict[str, Any]]
) -> None:
    """The files to deploy with their manifest: what the pipeline ends with comes first."""
    rows = [row for row in reversed(plan.rows) if row.kind is not Kind.TORCH and row.kind is not Kind.QUANTIZED]
    given = []
    for row in rows:
        bundle = _bundle(row, done, store)
        precision = done[row.step].record.metrics.get("precision", "fp32")
        given.append(
            ArtifactFile(
                bundle.path,
                row.parent or row.name,
                bundle.deployment,
                precision,
                row.emission or precision,
                kind=row.kind.value,
                name=row.name,
            )
        )
    for row, artifact in zip(rows, write_artifacts(folder, given), strict=True):
        files[row.name] = {
            "path": f"{ARTIFACTS}/{artifact.path}",
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
        }


def _write_models(
    plan: Plan, done: Mapping[str, Done], store: Store, folder: Path, files: dict[str, dict[str, Any]]
) -> None:
    """The PyTorch models at rest, one folder each; folders of models that the plan no longer has are removed."""
    rows = [row for row in plan.rows if row.kind in (Kind.TORCH, Kind.QUANTIZED)]
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.iterdir()} - {row.name for row in rows}:
        shutil.rmtree(folder / stale, ignore_errors=True)
    for row in rows:
        record = done[row.step].record
        home = folder / row.name
        if not home.is_dir() or folder_sha256(home) != record.digest:
            with replacing(home) as scratch:
                shutil.copytree(store.artifact(record.digest), scratch)
                shutil.rmtree(home, ignore_errors=True)
        size = sum(path.stat().st_size for path in home.rglob("*.safetensors"))
        files[row.name] = {"path": f"{MODELS}/{row.name}", "sha256": record.digest, "size_bytes": size}


def _write_texts(plan: Plan, done: Mapping[str, Done], store: Store, folder: Path) -> None:
    """What teachers have written, one file a stage; files of stages that the plan no longer has are removed."""
    steps = {f"{step.name}.jsonl": step for step in plan.steps if step.stage.gives is Kind.RESPONSES}
    for stale in [path for path in folder.glob("*.jsonl") if path.name not in steps]:
        stale.unlink()
    for name, step in steps.items():
        folder.mkdir(exist_ok=True)
        written = store.artifact(done[step.name].record.digest) / RESPONSES_FILE
        if not (folder / name).is_file() or file_sha256(folder / name) != file_sha256(written):
            with replacing(folder / name) as scratch:
                shutil.copyfile(written, scratch)


def _shown(path: Path) -> list[dict[str, Any]]:
    """The examples that an evaluation kept to be looked at."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return rows


def _write_engines(plan: Plan, done: Mapping[str, Done], store: Store, folder: Path) -> None:
    """What was built on targets, `<file>-<target>.plan` and what it belongs to as JSON; others are removed."""
    wanted: dict[str, Path] = {}
    for row in plan.rows:
        for target, evaluation in row.evaluations.items():
            built = plan.step(evaluation).inputs["source"]
            if plan.step(built).stage.gives is Kind.ENGINE:
                bundle = Bundle(Kind.ENGINE, store.artifact(done[built].record.digest))
                for path in model_files(bundle.model_file):
                    wanted[f"{row.name}-{target}{path.suffix}"] = path
    for stale in [path for path in folder.glob("*") if path.name not in wanted]:
        stale.unlink()
    for name, path in wanted.items():
        folder.mkdir(exist_ok=True)
        if not (folder / name).is_file() or file_sha256(folder / name) != file_sha256(path):
            with replacing(folder / name) as scratch:
                shutil.copyfile(path, scratch)


def _bundle(row: Row, done: Mapping[str, Done], store: Store) -> Bundle:
    record = done[row.step].record
    return Bundle(row.kind, store.artifact(record.digest), record.digest)
