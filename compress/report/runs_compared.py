"""Several runs beside each other: settings that differ, metrics, and latencies where they may be compared.

Times are compared where they were taken in one session, its files taking turns; two sessions on one machine are told of
by what each says against one file that both timed. Times of two machines, and those of an emulator, are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.profiling import statistics
from compress.profiling.right import PairedShares, paired
from compress.report.comparison import compare, difference_interval, ratio_interval
from compress.report.rows import Interval, Latency, Model, Report, ends
from compress.report.words import interval, is_share, metric_name, points, ratio, rounded

SHORT = 12
"""Letters of a digest that are shown."""


@dataclass(frozen=True)
class Run:
    """A finished run: the name that tells it from the others, and its report."""

    name: str
    report: Report


@dataclass(frozen=True)
class Difference:
    """A setting and its value in each run; None where a run has no such setting."""

    setting: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Compared:
    """A number of a run's file over (or less) the first run's, with its 95 % interval; or why it cannot be compared."""

    run: str
    what: str
    target: str | None
    value: float | None
    ci95: Interval | None
    said: str

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "run": self.run,
            "what": self.what,
            "target": self.target,
            "value": self.value,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "said": self.said,
        }


THERE = "there"


def settings_that_differ(runs: Sequence[Run]) -> list[Difference]:
    """Each setting by its path, such as `stages.prune.keep.macs`, in the order in which it is first met.

    Of a whole (a stage, a target) that a run lacks one line tells: its value is `there` or None.
    """
    flat = [dict(flattened(run.report.settings)) for run in runs]
    wholes = [{whole for name in settings for whole in _wholes(name)} for settings in flat]
    found: dict[str, Difference] = {}
    for name in dict.fromkeys(name for settings in flat for name in settings):
        values = tuple(settings.get(name) for settings in flat)
        if all(value == values[0] for value in values[1:]):
            continue
        lacking = next((whole for whole in _wholes(name) if any(whole not in known for known in wholes)), name)
        if lacking != name:
            values = tuple(THERE if lacking in known else None for known in wholes)
        found.setdefault(lacking, Difference(lacking, values))
    return list(found.values())


def _wholes(name: str) -> list[str]:
    """What a setting is part of, the largest first, and the setting itself."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def flattened(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """(path, value) of each leaf; what a list holds is named by its `name` where it has one, else by its place."""
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in flattened(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        pairs = []
        for at, item in enumerate(value):
            name = item.get("name", at) if isinstance(item, Mapping) else at
            pairs += flattened(item, f"{path}.{name}" if path else str(name))
        return pairs
    return [(path, list(value) if isinstance(value, tuple) else value)]


def comparisons(runs: Sequence[Run]) -> list[Compared]:
    """The file that each run tells of, against that of the first: metric, size, and time on every target."""
    first = runs[0]
    found = []
    for run in runs[1:]:
        ours, theirs = run.report.told, first.report.told
        if ours is None or theirs is None:
            nothing = run.name if ours is None else first.name
            found.append(Compared(run.name, "files", None, None, None, f"not comparable: {nothing} has no file"))
            continue
        found.append(_metric(first, run, theirs, ours))
        if ours.size_bytes and theirs.size_bytes:
            times = theirs.size_bytes / ours.size_bytes
            said = f"{ratio(times)} smaller" if times > 1 else f"{ratio(1 / times)} larger"
            said = "the same" if times == 1 else said
            found.append(Compared(run.name, "size", None, times, None, said))
        found += [_time(first, run, target) for target in dict.fromkeys((*first.report.targets, *run.report.targets))]
    return found


def _metric(first: Run, run: Run, theirs: Model, ours: Model) -> Compared:
    """What the run gains: over the same examples in pairs where both reports tell which of them are right."""
    metric, name = first.report.metric, metric_name(first.report.metric)
    if run.report.metric != metric:
        said = f"not comparable: judged by {name} and by {metric_name(run.report.metric)}"
        return Compared(run.name, metric, None, None, None, said)
    data = tuple(one.report.data.get("fingerprint") for one in (first, run))
    if data[0] != data[1] or data[0] is None:
        shown = " and ".join(str(one)[:SHORT] if one else "data that nobody told of" for one in data)
        said = f"not comparable: judged on other data ({shown})"
        return Compared(run.name, metric, None, None, None, said)
    before, after = theirs.metrics.get(metric), ours.metrics.get(metric)
    if before is None or after is None:
        return Compared(run.name, metric, None, None, None, f"not comparable: {name} was not measured in both")
    if ours.sha256 is not None and ours.sha256 == theirs.sha256:
        return Compared(run.name, metric, None, after - before, None, "the same file")
    if (pairs := _same_examples(first.report, run.report, theirs, ours)) is not None:
        said = _metric_words(first.report, pairs.gain, pairs.ci95)
        changed = f"{pairs.only_first} became wrong, {pairs.only_second} right"
        said += f", paired: {changed}; McNemar's p {rounded(pairs.p_value)}"
        return Compared(run.name, metric, None, pairs.gain, pairs.ci95, said)
    ci95 = difference_interval(
        after, ends(ours.metrics.get(f"{metric}_ci95")), before, ends(theirs.metrics.get(f"{metric}_ci95"))
    )
    said = _metric_words(first.report, after - before, ci95)
    said += "; unpaired, as if the examples were others, and so rather too wide" if ci95 is not None else ""
    return Compared(run.name, metric, None, after - before, ci95, said)


def _same_examples(first: Report, second: Report, theirs: Model, ours: Model) -> PairedShares | None:
    """The answers of both to the same test data, of one fingerprint; None where a report does not keep them."""
    before, after = first.right, second.right
    if first.metric != "accuracy" or before is None or after is None:
        return None
    if (before.file, after.file) != (theirs.name, ours.name) or len(before.bits) != len(after.bits):
        return None
    return paired(before.bits, after.bits)


def _metric_words(report: Report, change: float, ci95: Interval | None) -> str:
    def write(value: float) -> str:
        return points(value) if is_share(report.metric) else rounded(value)

    better = (change > 0) == report.higher_is_better
    word = "the same" if change == 0 else "better" if better else "worse"
    text = word if change == 0 else f"{write(abs(change))} {word}"
    if ci95 is None:
        return text
    unsure = "; it may be chance" if ci95[0] <= 0 <= ci95[1] else ""
    return f"{text} (95 % interval of the difference: {interval(ci95, write)}{unsure})"


def _time(first: Run, run: Run, target: str) -> Compared:
    """How many times faster the run's file is than the first run's on a target."""
    theirs, ours = _told_on(first.report, target), _told_on(run.report, target)
    why = _why_not(first, run, target, theirs, ours)
    if why:
        return Compared(run.name, "p50", target, None, None, f"not comparable: {why}")
    assert theirs is not None and ours is not None
    (their_file, before), (our_file, after) = theirs, ours
    if _session(first.report, target) == _session(run.report, target):
        if their_file.name == our_file.name:
            return Compared(run.name, "p50", target, 1.0, None, "the same measurement")
        value, ci95 = before.p50_ms / after.p50_ms, _paired(before, after)
        return Compared(run.name, "p50", target, value, ci95, _times_words(value, ci95))
    return _over_one_file(first, run, target, their_file, our_file)


def _paired(before: Latency, after: Latency) -> Interval | None:
    """The interval of the ratio of two files that took turns in the rounds of one session; None of too few rounds."""
    rounds = [[np.asarray(calls, dtype=np.float64) for calls in one.rounds_ms] for one in (before, after)]
    if len(rounds[0]) == len(rounds[1]) >= statistics.LEAST_ROUNDS:
        return statistics.ratio_interval(*rounds)
    return ratio_interval(before.p50_ms, before.p50_ci95_ms, after.p50_ms, after.p50_ci95_ms)


def _over_one_file(first: Run, run: Run, target: str, theirs: Model, ours: Model) -> Compared:
    """Two sessions: each file's speedup over the reference's file, which both sessions timed, cancels the session."""
    anchors = first.report.reference_file, run.report.reference_file
    digests = {None if anchor is None else anchor.sha256 for anchor in anchors}
    before, after = _gain(first.report, theirs, target), _gain(run.report, ours, target)
    if None in digests or len(digests) > 1 or before is None or after is None:
        sessions = " and ".join(str(_session(one.report, target))[:SHORT] for one in (first, run))
        said = f"not comparable: measured in two sessions ({sessions}) that timed no file in common"
        return Compared(run.name, "p50", target, None, None, said)
    value = after[0] / before[0]
    ci95 = ratio_interval(*after, *before)
    said = _times_words(value, ci95) + ", from the speedups that two sessions saw over one reference file"
    return Compared(run.name, "p50", target, value, ci95, said)


def _gain(report: Report, model: Model, target: str) -> tuple[float, Interval | None] | None:
    """The speedup over the reference's file; 1 of that file itself."""
    if model is report.reference_file:
        return 1.0, (1.0, 1.0)
    compared = compare(report, model, target)
    return None if compared is None or compared.speedup is None else (compared.speedup, compared.speedup_ci95)


def _times_words(value: float, ci95: Interval | None) -> str:
    text = f"{ratio(value)} faster" if value >= 1 else f"{ratio(1 / value)} slower"
    if ci95 is None:
        return text
    unsure = "; it may be chance" if ci95[0] <= 1 <= ci95[1] else ""
    return f"{text} (95 % interval of the ratio: {interval(ci95, ratio)}{unsure})"


def _told_on(report: Report, target: str) -> tuple[Model, Latency] | None:
    latency = report.told.on(target) if report.told is not None else None
    return None if report.told is None or latency is None else (report.told, latency)


def _session(report: Report, target: str) -> str | None:
    place = report.place(target)
    return None if place is None else place.session


def _why_not(
    first: Run, run: Run, target: str, theirs: tuple[Model, Latency] | None, ours: tuple[Model, Latency] | None
) -> str:
    """Why times on a target say nothing of two runs; empty if they do."""
    for one, found in ((first, theirs), (run, ours)):
        if found is None:
            return f"not measured there in {one.name}"
        if one.report.is_emulated(target):
            return f"times in {one.name} are those of an emulator"
    places = first.report.place(target), run.report.place(target)
    if places[0] is None or places[1] is None or not places[0].fingerprint or not places[1].fingerprint:
        return "a report does not say which machine it was"
    if places[0].fingerprint != places[1].fingerprint:
        machines = [f"{place.processor or 'a machine'} ({str(place.fingerprint)[:SHORT]})" for place in places if place]
        return f"measured on {' and on '.join(machines)}"
    if theirs is not None and ours is not None and _how(theirs[1]) != _how(ours[1]):
        return f"measured with {_how(theirs[1])} and with {_how(ours[1])}"
    return ""


def _how(latency: Latency) -> str:
    return f"batch {latency.batch} and {latency.threads} thread{'' if latency.threads == 1 else 's'}"
