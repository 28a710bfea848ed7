"""`report.json` read into typed rows. With `int8_rows` and `pruned_rows` the one place that knows its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.errors import UsageError
from compress.profiling.right import read_right
from compress.report.flip_rows import read_flips
from compress.report.int8_rows import read_left, read_operators, read_quantized, read_worth
from compress.report.pruned_rows import read_pruned
from compress.report.rows import Interval, Latency, Model, Offline, Report, Requirement, Step, ends
from compress.report.target_rows import read_target_row

REPORT_FORMAT = 2
"""Raised when an older version would misread what this one writes."""


def read_rows(report: Mapping[str, Any]) -> Report:
    """Typed rows of the dictionary that `report.json` holds.

    Raises:
        UsageError: a key is missing or of the wrong type, or another version wrote it.
    """
    if report.get("format", REPORT_FORMAT) != REPORT_FORMAT:
        raise UsageError(
            f"report.json is of format {report['format']}, and this version reads format {REPORT_FORMAT}: "
            "run the pipeline again, or use the version that wrote it"
        )
    try:
        models = tuple(_model(row) for row in report["models"])
        primary = report.get("primary_metric") or {}
        measured = [latency.target for model in models for latency in model.latency]
        return Report(
            name=report["name"],
            met=bool(report["met"]),
            reference=report["reference"],
            deploy=report["deploy"],
            models=models,
            budget=tuple(
                Requirement(row["name"], row["limit"], row["value"], bool(row["met"]), row.get("target"))
                for row in report["budget"]
            ),
            steps=tuple(
                Step(row["name"], row["stage"], row["key"], row["seconds"], bool(row["reused"]))
                for row in report["steps"]
            ),
            environment=dict(report["environment"]),
            metric=primary.get("name") or _first_metric(models),
            higher_is_better=bool(primary.get("higher_is_better", True)),
            target=report.get("target") or next(iter(measured), None),
            deploy_reason=report.get("deploy_reason") or "",
            reference_row=report.get("reference_row"),
            judged=report.get("judged"),
            notes=tuple(report.get("notes") or ()),
            int8=read_worth(report["int8"]) if report.get("int8") else None,
            split=report.get("split") or "test",
            task=report.get("task"),
            data=dict(report.get("data") or {}),
            settings=dict(report.get("settings") or {}),
            places=tuple(read_target_row(row) for row in report.get("targets") or ()),
            card=dict(report.get("card") or {}),
            right=read_right(report["right"]) if report.get("right") else None,
            flips=read_flips(report["flips"]) if report.get("flips") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks the key {error}" if isinstance(error, KeyError) else f"cannot be read ({error})"
        raise UsageError(f"report.json {what}: it was not written by this version; run the pipeline again") from error


def _model(row: Mapping[str, Any]) -> Model:
    return Model(
        name=row["name"],
        stage=row["stage"],
        kind=row["kind"],
        precision=row.get("precision"),
        profile=row.get("profile"),
        path=row.get("path"),
        sha256=row.get("sha256"),
        size_bytes=row.get("size_bytes"),
        parameters=row.get("parameters"),
        macs=row.get("macs"),
        int8_share=row.get("int8_share"),
        metrics=dict(row.get("metrics") or {}),
        validation=dict(row.get("validation") or {}),
        latency=tuple(_latency(entry) for entry in row.get("latency") or ()),
        parent=row.get("parent"),
        parity=_mapping(row.get("parity")),
        not_int8=tuple(read_left(left) for left in row.get("not_int8") or ()),
        pruned=read_pruned(row["pruning"]) if row.get("pruning") else None,
        quantized=read_quantized(row["quantization"]) if row.get("quantization") else None,
        operators=tuple(read_operators(kind) for kind in row.get("operators") or ()),
        operators_by_target={
            target: tuple(read_operators(kind) for kind in kinds)
            for target, kinds in (row.get("operators_by_target") or {}).items()
        },
        by_target={target: dict(metrics) for target, metrics in (row.get("metrics_by_target") or {}).items()},
    )


def _latency(entry: Mapping[str, Any]) -> Latency:
    return Latency(
        target=entry["target"],
        runtime=entry["runtime"],
        threads=entry.get("threads"),
        batch=entry["batch"],
        shape=entry.get("shape"),
        p50_ms=entry["p50_ms"],
        p90_ms=entry.get("p90_ms"),
        p99_ms=entry.get("p99_ms"),
        p50_ci95_ms=_telling(entry.get("p50_ci95_ms")),
        samples=entry.get("samples"),
        throughput_per_s=entry.get("throughput_per_s") or None,
        peak_memory_bytes=entry.get("peak_memory_bytes"),
        load_ms=entry.get("load_ms"),
        speedup_ci95=_telling(entry.get("speedup_ci95")),
        rounds_ms=tuple(tuple(calls) for calls in entry.get("rounds_ms") or ()),
        p90_ci95_ms=_telling(entry.get("p90_ci95_ms")),
        emulated=bool(entry.get("emulated")),
        why_not=dict(entry.get("not_established") or {}),
        mode=entry.get("mode"),
        offline=tuple(_offline(bulk) for bulk in entry.get("offline") or ()),
        energy_mj=dict(entry.get("energy_mj") or {}),
        gpu_memory_bytes=entry.get("gpu_memory_bytes"),
        transfers_ms=dict(entry.get("transfers_ms") or {}),
    )


def _offline(bulk: Mapping[str, Any]) -> Offline:
    return Offline(bulk["batch"], bulk["examples_per_second"], dict(bulk.get("millijoules") or {}))


WIDEST = 100.0
"""High over low end from which an interval of a time, as that of two rounds may be, says nothing."""


def _telling(pair: Any) -> Interval | None:
    """An interval that can be shown; the numbers stay in `report.json`."""
    found = ends(pair)
    return None if found is None or found[0] <= 0 or found[1] > WIDEST * found[0] else found


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {} if value is None else {"parity": value}


def _first_metric(models: Sequence[Model]) -> str:
    return next((name for model in models for name in (*model.metrics, *model.validation)), "accuracy")
