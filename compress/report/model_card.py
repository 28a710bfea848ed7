"""A model card: what a reader must know before using the deployed file, with what is known and nothing made up.

The headings are those of Mitchell et al. 2019, "Model Cards for Model Reporting", section 4. What only a
person knows (who made the model, what for, under which licence) the pipeline's `card` says, or it is said to be not
told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.report.cells import FEW_ROUNDS
from compress.report.comparison import compare
from compress.report.rows import Model, Report
from compress.report.targets_section import EMULATED, told_on
from compress.report.words import (
    count,
    interval,
    listed,
    metric_change,
    metric_name,
    metric_value,
    milliseconds,
    percent,
    rounded,
    signed_loss,
    size,
)

NOT_TOLD = "not told"
MOST_LABELS = 20
FEW = 1000
"""Test examples below which it is said that differences are uncertain."""


@dataclass(frozen=True)
class CardSection:
    """One heading of the card and its lines: what, and what is known of it."""

    title: str
    lines: tuple[tuple[str, str], ...]


def model_card(report: Report) -> tuple[CardSection, ...]:
    """The sections of the card; none where there is no file to tell of."""
    told = report.told
    if told is None:
        return ()
    found = [
        CardSection("Model details", _details(report, told)),
        CardSection("Intended use", _use(report)),
        CardSection("Factors", (("groups", "not told apart: every figure is over all test examples together"),)),
        CardSection("Metrics", _metrics(report)),
        CardSection("Evaluation data", _evaluation_data(report)),
        CardSection("Training data", _training_data(report)),
        CardSection("Quantitative analyses", _analyses(report)),
        CardSection("Ethical considerations", (("risks and harms", _told(report, "risks")),)),
        CardSection("Caveats and recommendations", _caveats(report, told)),
    ]
    return tuple(section for section in found if section.lines)


def _details(report: Report, told: Model) -> tuple[tuple[str, str], ...]:
    what = [told.precision or "", size(told.size_bytes) if told.size_bytes is not None else ""]
    lines = [("file", f"{told.name} ({', '.join(part for part in what if part)})")]
    if report.deployed is None:
        lines.append(("status", f"not to be deployed: {report.deploy_reason or 'nothing meets the budget'}"))
    if told.parameters is not None:
        macs = f", {count(told.macs)} multiplications of one example" if told.macs is not None else ""
        lines.append(("size of the network", f"{count(told.parameters)} parameters{macs}"))
    if told.sha256:
        lines.append(("sha256", told.sha256))
    if stages := report.settings.get("stages"):
        lines.append(("what was done", "; ".join(_stage(stage) for stage in stages)))
    libraries = report.environment.get("libraries") or {}
    if libraries:
        lines.append(("made with", ", ".join(f"{name} {version}" for name, version in libraries.items())))
    return (*lines, ("licence", _told(report, "licence")), ("who made it, and whom to ask", _told(report, "made_by")))


def _stage(stage: Mapping[str, Any]) -> str:
    """`distill: student from teacher, 12 epochs`."""
    verb = next((key for key, value in stage.items() if isinstance(value, Mapping)), "")
    settings = stage.get(verb) or {}
    said = []
    if model := settings.get("model"):
        said.append(f"{model} from {settings['teacher']}" if settings.get("teacher") else str(model))
    if verb == "prune" and settings.get("keep"):
        kept = {key: value for key, value in settings["keep"].items() if value is not None}
        said.append("keep " + ", ".join(f"{value:g} of the {key}" for key, value in kept.items()))
    if settings.get("epochs"):
        said.append("1 epoch" if settings["epochs"] == 1 else f"{settings['epochs']} epochs")
    if isinstance(settings.get("emit"), list):
        said.append(", ".join(settings["emit"]))
    named = f" ({stage['name']})" if stage.get("name") not in (None, verb) else ""
    return f"{verb}{named}" + (f": {', '.join(said)}" if said else "")


def _use(report: Report) -> tuple[tuple[str, str], ...]:
    lines = [("task", report.task.replace("-", " "))] if report.task else []
    if labels := report.data.get("labels"):
        names = listed(labels) if len(labels) <= MOST_LABELS else f"{', '.join(labels[:MOST_LABELS])} and others"
        lines.append(("classes", f"{len(labels)}: {names}"))
    uses = (("intended uses and users", "intended_use"), ("uses out of scope", "out_of_scope"))
    return (*lines, *((name, _told(report, key)) for name, key in uses))


def _told(report: Report, key: str) -> str:
    """What the pipeline's `card` says."""
    return report.card.get(key, NOT_TOLD)


def _metrics(report: Report) -> tuple[tuple[str, str], ...]:
    better = "higher" if report.higher_is_better else "lower"
    what = f"{metric_name(report.metric)}, {better} is better, from the answers of the deployed file on each target"
    lines = [("judged by", what)]
    if report.metric == "accuracy":
        lines.append(("its interval", "95 %, Wilson 1927; of what is lost: paired, Newcombe 1998, method 10"))
    return (
        *lines,
        ("times", "p50 and p90 of single calls in fresh processes, in turns; 95 % by bootstrap over rounds"),
    )


def _evaluation_data(report: Report) -> tuple[tuple[str, str], ...]:
    examples = report.data.get("examples") or {}
    lines = [("source", str(report.data["source"]))] if report.data.get("source") else []
    if "test" in examples:
        lines.append(
            ("reported on", f"{examples['test']:,} test examples, looked at once, after everything was chosen")
        )
    if "validation" in examples:
        lines.append(("chosen by", f"{examples['validation']:,} validation examples"))
    return tuple(lines)


def _training_data(report: Report) -> tuple[tuple[str, str], ...]:
    examples, data = report.data.get("examples") or {}, report.settings.get("data") or {}
    lines = [("source", str(report.data["source"]))] if report.data.get("source") else []
    if "train" in examples:
        lines.append(("examples", f"{examples['train']:,}"))
    for name in ("preprocessing", "augmentation"):
        if steps := data.get(name):
            lines.append((name, ", ".join(_step(step) for step in steps)))
    if report.settings.get("seed") is not None:
        lines.append(("seed", str(report.settings["seed"])))
    if report.data.get("fingerprint"):
        lines.append(("digest of settings and content", str(report.data["fingerprint"])))
    return tuple(lines)


def _step(step: Mapping[str, Any]) -> str:
    return listed([key.replace("_", " ") for key, value in step.items() if value is not None])


def _analyses(report: Report) -> tuple[tuple[str, str], ...]:
    lines = []
    for target in report.targets:
        model = told_on(report, target)
        if model is not None:
            lines.append((f"on {target}", _analysis(report, model, target)))
    if (flips := report.flips) is not None and flips.file != flips.reference:
        lines.append(
            (
                "changed answers",
                f"{len(flips.became_wrong)} became wrong, {len(flips.became_right)} right; negative flip rate "
                f"{percent(flips.rate)} ({interval(flips.rate_ci95, percent)})",
            )
        )
    return tuple(lines)


def _analysis(report: Report, model: Model, target: str) -> str:
    metrics, latency = model.judged_on(target) if target != report.target else model.metrics, model.on(target)
    parts = [] if model is report.told else [model.name]
    if (value := metrics.get(report.metric)) is not None:
        ci95 = metrics.get(f"{report.metric}_ci95")
        ends = f" ({interval(tuple(ci95), lambda end: metric_value(report.metric, end))})" if ci95 else ""
        parts.append(f"{metric_name(report.metric)} {metric_value(report.metric, value)}{ends}")
    compared = compare(report, model, target)
    if compared is not None and compared.loss is not None:
        between = compared.loss_ci95
        ends = f" ({interval(between, lambda end: signed_loss(report.metric, end))})" if between else ""
        word = "lost" if compared.loss >= 0 else "gained"
        parts.append(f"{word} against the reference {metric_change(report.metric, compared.loss)}{ends}")
    if latency is not None:
        ci95 = latency.p50_ci95_ms
        ends = f" ({interval(ci95, rounded)})" if ci95 else f" ({FEW_ROUNDS})" if latency.has_few_rounds else ""
        parts.append(f"p50 {milliseconds(latency.p50_ms)}{ends}")
        p90 = milliseconds(latency.p90_ms) if latency.p90_ms is not None else "not established"
        ends = f" ({interval(latency.p90_ci95_ms, rounded)})" if latency.p90_ci95_ms else ""
        parts.append(f"p90 {p90}{ends}")
    return "; ".join(parts) + (f" ({EMULATED})" if report.is_emulated(target) else "")


def _caveats(report: Report, told: Model) -> tuple[tuple[str, str], ...]:
    lines = [("measured on", f"{listed(list(report.targets)) or 'no target'}; nothing is known of other machines")]
    examples = (report.data.get("examples") or {}).get("test")
    if examples is not None and examples < FEW:
        lines.append(("few examples", f"{examples:,} test examples: mind the intervals, not the decimals"))
    lines.append(("data", "the figures hold for data like the test data; other data were not tried"))
    if told.not_int8 and told.precision == "int8":
        lines.append(("left in float", f"{len(told.not_int8)} operators that could run in int8"))
    for requirement in report.budget:
        if not requirement.met:
            lines.append(("budget", f"{requirement.name.replace('_', ' ')} is missed"))
    lines += [("noted", note) for note in report.notes]
    return tuple(lines)
