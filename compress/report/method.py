"""How the numbers of a report came about, told from the numbers themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.profiling.statistics import LEAST_ROUNDS
from compress.report.rows import Latency, Report
from compress.report.words import is_share, listed, metric_name, seconds, size


def method(report: Report) -> tuple[str, ...]:
    """One sentence a fact."""
    sentences = []
    if report.split != "test":
        sentences.append(
            f"{_what(report)} of each file is judged on the samples that did not set its ranges. The loss on them also "
            "says how far up the ladder went, so that it is a little too good."
        )
    elif any(report.metric in model.metrics for model in report.files):
        sentences.append(
            f"Test {metric_name(report.metric)} is computed from the answers of each file itself, run by its runtime. "
            "Everything was chosen on validation data; the test data was looked at once, for this report."
        )
    if report.metric != "agreement" and any("agreement" in model.metrics for model in report.files):
        within = "" if is_share(report.metric) else ", within the task's tolerance"
        sentences.append(f"Agreement is the share of test answers that are those of the reference's file{within}.")
    sentences += [sentence for target in report.targets if (sentence := _target(report, target))]
    sentences += _intervals(report)
    sentences += _throughput(report)
    sentences += _resources([latency for model in report.files for latency in model.latency])
    return tuple(sentences)


def _throughput(report: Report) -> list[str]:
    """At which batch sizes throughput was measured: a sentence for all targets, or for each if they differ."""
    sizes: dict[str, set[int]] = {}
    for model in report.files:
        for latency in model.latency:
            sizes.setdefault(latency.target, set()).update(bulk.batch for bulk in latency.offline)
    told = {target: sorted(batches) for target, batches in sizes.items() if batches}
    same = len({tuple(batches) for batches in told.values()}) == 1
    if same:
        told = {"": next(iter(told.values()))}
    sentences = []
    for target, batches in told.items():
        where = f" on {target}" if target else ""
        if len(batches) == 1:
            sentences.append(f"Examples a second (examples/s){where} are measured at batch {batches[0]}.")
        else:
            named = listed([str(batch) for batch in batches])
            said = f"Examples a second (examples/s){where} are measured at batch sizes {named}"
            sentences.append(f"{said}; of each file its best counts.")
    return sentences


def _resources(measured: Sequence[Latency]) -> list[str]:
    """What memory, energy and copies are, of those that were measured."""
    found = []
    if any(latency.peak_memory_bytes is not None for latency in measured):
        found.append("Memory is the peak of a fresh process over what the process took before it loaded the file.")
    if any(latency.gpu_memory_bytes is not None for latency in measured):
        found.append("GPU memory is what more of it was in use while the file ran, as its driver says.")
    if sources := sorted({source for latency in measured for source in latency.energy_mj}):
        counted = listed(sources)
        found.append(f"Energy is that of one example at the best batch size, idle included, counted by {counted}.")
    if any(latency.transfers_ms for latency in measured):
        found.append("Copies to and from the GPU are medians of their own; they are no part of the latency.")
    return found


def _intervals(report: Report) -> list[str]:
    """How the intervals were made, by what is there."""
    measured = [latency for model in report.files for latency in model.latency]
    few = [len(latency.rounds_ms) for latency in measured if latency.has_few_rounds]
    unsure = [f"Of {listed(sorted(set(map(str, few))))} rounds there is no interval of times: it takes {LEAST_ROUNDS}."]
    if not any(latency.p50_ci95_ms for latency in measured):
        return unsure if few else []
    text = "Intervals are 95 % intervals; those of times are bootstrapped over rounds."
    paired = any(f"{report.metric}_drop_ci95" in model.metrics for model in report.files)
    if any(latency.speedup_ci95 for latency in measured):
        text += " That of a speedup is over rounds in which both files had their turns."
    if paired and report.metric == "accuracy":
        text += " That of an accuracy is Wilson's; that of a loss is paired: Newcombe 1998, method 10."
    elif paired:
        text += " That of a loss is paired: the same examples are drawn anew for both files."
    else:
        text += (
            " That of a loss is made from those of its two files; as both saw the same data, it is rather too wide "
            "than too narrow."
        )
    full = "In mode full, p90 and p99 are bounds that hold with 99 % confidence (MLPerf's early stopping)."
    return [text, *(unsure if few else []), *([full] if any(latency.mode == "full" for latency in measured) else [])]


def _what(report: Report) -> str:
    """What a bare file is judged by."""
    meanings = {
        "agreement": "Agreement (the share of samples whose greatest output is the float file's)",
        "relative_error": "Relative error (the squared error of the outputs over their variance)",
    }
    return meanings.get(report.metric, "Accuracy")


def _target(report: Report, target: str) -> str:
    measured = [latency for model in report.files for latency in model.latency if latency.target == target]
    if not measured:
        return ""
    first = min(measured, key=lambda latency: latency.batch)
    batches = listed([str(batch) for batch in sorted({latency.batch for latency in measured})])
    threads = listed(
        [str(number) for number in sorted({item.threads for item in measured if item.threads is not None})]
    )
    text = f"On {target}: {listed(list(dict.fromkeys(latency.runtime for latency in measured)))}, batch {batches}"
    text += f", {threads} thread{'' if threads == '1' else 's'}" if threads else ""
    text += f", an example being {shape_words(first.shape)}" if first.shape else ""
    at_first = [latency for latency in measured if latency.batch == first.batch]
    return f"{text}. {_samples(at_first)}".strip()


def shape_words(shape: Any) -> str:
    """1 x 1 x 8 x 8, or the same for each input by name."""
    if isinstance(shape, Mapping):
        return listed([f"{name} {shape_words(value)}" for name, value in shape.items()])
    if isinstance(shape, Sequence) and not isinstance(shape, str):
        nested = any(isinstance(part, Sequence | Mapping) and not isinstance(part, str) for part in shape)
        return listed([shape_words(part) for part in shape]) if nested else " x ".join(str(part) for part in shape)
    return str(shape)


def _samples(measured: Sequence[Latency]) -> str:
    calls = [latency.samples for latency in measured if latency.samples]
    rounds = [len(latency.rounds_ms) for latency in measured if latency.rounds_ms]
    if not calls:
        return ""
    few, many = min(calls), max(calls)
    text = f"{few:,} calls a file" if few == many else f"{few:,} to {many:,} calls a file"
    in_rounds = f" in {min(rounds)} rounds, each a fresh process, the files taking turns" if rounds else ""
    return f"Each median is over {text}{in_rounds}."


def environment_lines(environment: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name, value) lines: `cpu model`, `cpu flags`."""
    lines: list[tuple[str, str]] = []
    for key, value in environment.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            lines += environment_lines(value, name)
        elif isinstance(value, list | tuple):
            joint = "; " if any(isinstance(item, Mapping) for item in value) else ", "
            lines.append((name, joint.join(_item(item) for item in value) or "none"))
        elif value is not None and value != "":
            lines.append((name, _item(value)) if not key.endswith("_bytes") else (name[: -len(" bytes")], size(value)))
    return lines


def _item(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_item(item)}" for key, item in value.items() if item is not None)
    return ", ".join(_item(item) for item in value) if isinstance(value, list | tuple) else str(value)


def total_seconds(report: Report) -> str:
    """What the steps of this run took together."""
    done = [step.seconds or 0.0 for step in report.steps if not step.reused]
    reused = len(report.steps) - len(done)
    words = f"{len(done)} of {len(report.steps)} steps ran, in {seconds(sum(done))}" if done else "No step ran"
    return f"{words}; {reused} {'was' if reused == 1 else 'were'} reused." if reused else f"{words}."
