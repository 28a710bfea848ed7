"""Plan and records -> the content of `report.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compress.budget import Candidate, Verdict, decide, worth_of_int8
from compress.bundle import Kind
from compress.plan import Plan
from compress.profiling.operator_times import what_costs
from compress.report.against import FLIP_KEYS, Shown, add_intervals, flips_of, nothing_shown, right_of
from compress.report.facts import data_of, is_emulated, limits_on, settings_of, target_of
from compress.report.reading import REPORT_FORMAT
from compress.rows import Row
from compress.run import Done
from compress.targets.emissions import INTEGER_PRECISIONS

LATENCY_KEYS_FOR_BUDGET = ("p50_ms", "p90_ms", "p99_ms")


def summarise(
    plan: Plan,
    done: Mapping[str, Done],
    files: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, Any],
    shown: Shown = nothing_shown,
) -> dict[str, Any]:
    """The content of `report.json`.

    `files` maps the name of each row that has an artifact to its `path` (relative to the run's folder), `sha256` and
    `size_bytes`; `shown` gives the examples that an evaluation step kept to be looked at, by its artifact's digest. The
    reference's row comes first in comparisons; accuracy chooses on validation and is reported on test data.
    """
    main = plan.pipeline.targets[0]
    target = main.name
    models = [_model(plan, row, done, files[row.name]) for row in plan.rows]
    add_intervals(models, plan.reference)
    primary = done[plan.rows[0].evaluations[target]].record.metrics
    higher, budget = primary["higher_is_better"], limits_on(plan.pipeline, main)
    on = {one.name: _candidates(plan, done, models, one.name) for one in plan.pipeline.targets}
    candidates, reference = on[target]
    if reference is None:
        raise ValueError("the reference is measured on the first target")
    profiled = done[next(row.profiles[target] for row in plan.rows if target in row.profiles)].record
    if is_emulated(main, profiled):
        verdict, int8 = Verdict(None, reference.name, (), f"the times on {target} are those of an emulator"), None
    else:
        verdict = decide(candidates, reference, budget, higher)
        costs = _costs(plan, done, models)
        int8 = worth_of_int8(candidates, reference, budget, higher, deploy=verdict.deploy, costs=costs)
    return {
        "format": REPORT_FORMAT,
        "name": plan.pipeline.name,
        "met": verdict.met,
        "reference": next(iter(plan.pipeline.models)),
        "reference_row": plan.reference,
        "deploy": verdict.deploy,
        "judged": verdict.judged,
        "deploy_reason": verdict.reason,
        "int8": None if int8 is None else int8.as_json(),
        "primary_metric": {"name": primary["primary"], "higher_is_better": higher},
        "target": target,
        "models": models,
        "budget": [line.as_json() for line in verdict.lines],
        "steps": _steps(plan, done),
        "notes": _notes(plan, done),
        "task": plan.pipeline.task.name,
        "data": data_of(plan, done),
        "settings": settings_of(plan.pipeline),
        "card": plan.pipeline.card.model_dump(exclude_none=True),
        "targets": [target_of(plan, done, name, *found) for name, found in on.items()],
        "flips": flips_of(plan, done, verdict.judged, shown),
        "right": right_of(plan, done, verdict.judged),
        "environment": dict(environment),
    }


def _steps(plan: Plan, done: Mapping[str, Done]) -> list[dict[str, Any]]:
    return [
        {
            "name": step.name,
            "stage": step.stage.verb,
            "key": step.key,
            "seconds": done[step.name].record.seconds,
            "reused": done[step.name].reused,
        }
        for step in plan.steps
    ]


def _notes(plan: Plan, done: Mapping[str, Done]) -> list[str]:
    """What the steps had to say, such as a machine too unsteady for a verdict; of texts it matters who wrote them."""
    said = [
        f"{step.name}: {note}" if step.stage.gives is Kind.RESPONSES else note
        for step in plan.steps
        for note in done[step.name].record.metrics.get("notes", ())
    ]
    return list(dict.fromkeys(said))


def _model(plan: Plan, row: Row, done: Mapping[str, Done], file: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `models`."""
    made = done[row.step].record.metrics
    origin = done[row.origin].record.metrics
    evaluated = {target: done[step].record.metrics for target, step in row.evaluations.items()}
    first = next(iter(evaluated.values()))
    moved = {target: metrics["test"]["flips"] for target, metrics in evaluated.items() if "flips" in metrics["test"]}
    latency = []
    for target, step in row.profiles.items():
        latency += [{**entry, "target": target} for entry in done[step].record.metrics["latency"][row.name]]
    precision = made.get("precision", "int8" if row.kind is Kind.QUANTIZED else "fp32")
    model = {
        "name": row.name,
        "stage": row.stage,
        "kind": "torch" if row.kind is Kind.QUANTIZED else row.kind.value,
        "precision": precision,
        "profile": row.emission,
        **file,
        "parameters": origin.get("parameters"),
        "macs": origin.get("macs"),
        "int8_share": made.get("int8_share"),
        "metrics": _judged(first),
        "validation": dict(first["validation"]),
        "latency": latency,
        "parent": row.parent,
    }
    extra: dict[str, Any] = {key: made[key] for key in ("not_int8", "parity", "pruning", "quantization") if key in made}
    if row.profiles:
        main = plan.pipeline.targets[0].name
        operators = {
            target: done[step].record.metrics.get("operators", {}).get(row.name, [])
            for target, step in row.profiles.items()
        }
        extra["operators"] = operators.pop(main, [])
        if others := {target: kinds for target, kinds in operators.items() if kinds}:
            extra["operators_by_target"] = others
    if moved and row.profiles:
        extra["flips"] = {target: {key: found[key] for key in FLIP_KEYS} for target, found in moved.items()}
    if len(evaluated) > 1:
        extra["metrics_by_target"] = {target: _judged(metrics) for target, metrics in evaluated.items()}
    return model | extra


def _profiled(plan: Plan, name: str, done: Mapping[str, Done]) -> Mapping[str, Any]:
    """What the first target's profile says; nothing of a file that this target does not run."""
    row = next(row for row in plan.rows if row.name == name)
    step = row.profiles.get(plan.pipeline.targets[0].name)
    return {} if step is None else done[step].record.metrics


def _costs(
    plan: Plan, done: Mapping[str, Done], models: Sequence[Mapping[str, Any]]
) -> Callable[[str, str], list[str]]:
    """What takes an int8 file's time beside a float file, in words, on the first target."""
    rows = {model["name"]: model for model in models}

    def costs(int8: str, floating: str) -> list[str]:
        ours, theirs = (rows[name].get("operators") or [] for name in (int8, floating))
        channels = _profiled(plan, int8, done).get("channels", {}).get(int8, [])
        return what_costs(ours, theirs, rows[int8].get("not_int8") or (), channels)

    return costs


def _judged(evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics on test data."""
    return {key: value for key, value in evaluated["test"].items() if key not in ("flips", "right")}


def _candidates(
    plan: Plan, done: Mapping[str, Done], models: Sequence[dict[str, Any]], target: str
) -> tuple[list[Candidate], Candidate | None]:
    """The files measured on the target, judged by what they answered there; and the reference's."""
    evaluations = {row.name: row.evaluations for row in plan.rows}
    found = {
        model["name"]: _candidate(model, target, done[evaluations[model["name"]][target]].record.metrics)
        for model in models
        if model["kind"] != "torch" and any(entry["target"] == target for entry in model["latency"])
    }
    return list(found.values()), found.get(plan.reference)


def _candidate(model: Mapping[str, Any], target: str, evaluated: Mapping[str, Any]) -> Candidate:
    metric = evaluated["primary"]
    entry = min((e for e in model["latency"] if e["target"] == target), key=lambda e: e["batch"])
    return Candidate(
        name=model["name"],
        validation=evaluated["validation"][metric],
        test=evaluated["test"][metric],
        **{key: entry[key] for key in LATENCY_KEYS_FOR_BUDGET},
        size_bytes=model["size_bytes"],
        peak_memory_bytes=entry.get("peak_memory_bytes"),
        is_int8=model["precision"] in INTEGER_PRECISIONS,
        precision=model["precision"],
        rounds_ms=entry.get("rounds_ms") or (),
        noise=entry.get("noise") or 0.0,
    )
