"""What the page says of each prune step: how far it went, for what time, layer by layer, and what could not go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from compress.report.plots import Picture
from compress.report.pruned_layers import channels_by_layer, time_by_layer
from compress.report.pruned_rows import Pruned, Times
from compress.report.pruned_worth import worth_against_time
from compress.report.rows import Report
from compress.report.words import count, listed, milliseconds, percent, ratio

FOLDED = 6  # of more layers than so many the names are folded away, of more blocks left out
Number = tuple[str, str, str]
"""What it is, the value, and a remark."""


@dataclass(frozen=True)
class Section:
    """One prune step: the model it made, what happened in words and numbers, pictures, and fixed layers by reason.

    `layers` are pictures with a line a layer, that scroll if they are `long`.
    """

    model: str
    sentences: tuple[str, ...]
    numbers: tuple[Number, ...]
    conditions: str
    layers: tuple[Picture, ...]
    long: bool
    worth: tuple[Picture, ...]
    fixed: tuple[tuple[str, str], ...]
    fixed_count: str
    folded: bool


def pruned_sections(report: Report) -> tuple[Section, ...]:
    """One for each model of the report that a prune step made."""
    pruned = [(model.name, model.pruned) for model in report.models if model.pruned is not None]
    return tuple(_section(model, found, f"pruned-{at}") for at, (model, found) in enumerate(pruned))


def _section(model: str, pruned: Pruned, name: str) -> Section:
    fixed, layers, worth = by_reason(pruned.fixed), _by_layer(pruned, name), worth_against_time(pruned, name)
    many = len(pruned.fixed)
    return Section(
        model=model,
        sentences=_sentences(pruned),
        numbers=_numbers(pruned.times) if pruned.times else (),
        conditions=_conditions(pruned.times) if pruned.times else "",
        layers=layers,
        long=len(layers) > 2,
        worth=(Picture("Importance against time", *worth),) if worth else (),
        fixed=tuple((reason, ", ".join(names)) for reason, names in fixed.items()),
        fixed_count="1 layer could not be pruned" if many == 1 else f"{many} layers could not be pruned",
        folded=many > FOLDED,
    )


def _by_layer(pruned: Pruned, name: str) -> tuple[Picture, ...]:
    """Channels and times in turns: side by side, a line of one is the same layer as that of the other."""
    drawn = zip_longest(channels_by_layer(pruned, name), time_by_layer(pruned, name))
    return tuple(Picture(*part) for pair in drawn for part in pair if part is not None)


def by_reason(fixed: Mapping[str, str]) -> dict[str, list[str]]:
    """The layers that share each reason, the most common reason first."""
    found: dict[str, list[str]] = {}
    for name, reason in fixed.items():
        found.setdefault(reason, []).append(name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _sentences(pruned: Pruned) -> tuple[str, ...]:
    able = [(layer, *layer.channels) for layer in pruned.layers if layer.channels is not None]
    gone = sum(layer.gone for layer, _, _ in able)
    narrower = sum(after < before for layer, before, after in able if not layer.gone)
    left = [
        f"{percent(pruned.after[key] / whole, 1)} of the {_measure(key)} ({count(pruned.after[key])} of {count(whole)})"
        for key, whole in pruned.before.items()
    ]
    if pruned.times is None and pruned.measure not in pruned.before:
        left.append(f"{percent(pruned.reached, 1)} of the {_measure(pruned.measure)}")
    asked = f"; asked were {percent(pruned.asked, 1)} of the {_measure(pruned.measure)}" if pruned.times is None else ""
    whole = f", {gone} are gone" if gone else ""
    said = f"{listed(left)} are left{asked}. Of {len(able)} layers that could be pruned {narrower} are narrower{whole}."
    more = (_blocks_gone(pruned.dropped) if pruned.dropped else "", _taken_over(pruned.reconstructed))
    return (said, *filter(None, more))


def _taken_over(errors: Sequence[float]) -> str:
    if not errors:
        return ""
    many = "the layer that reads" if len(errors) == 1 else f"the {len(errors)} layers that read"
    return (
        f"Before any training, {many} channels that went were made to need them less: "
        f"{percent(sum(errors) / len(errors), 1)} of the squared error of their outputs are left."
    )


def _blocks_gone(dropped: Sequence[str]) -> str:
    many = "1 block is" if len(dropped) == 1 else f"{len(dropped)} blocks are"
    if len(dropped) > FOLDED:
        return f"{many} gone as a whole; below, their layers are marked as gone."
    return f"{many} gone as a whole: {listed(dropped)}."


def _measure(name: str) -> str:
    return "MACs" if name == "macs" else name


def _numbers(times: Times) -> tuple[Number, ...]:
    over, base = times.over_ms, times.over_ms or times.whole_ms

    def faster(ms: float) -> str:
        return f"{ratio(base / ms)} faster{' than in fp32' if over else ''}"

    miss = times.measured_ms / times.wanted_ms - 1
    missed = f"{percent(abs(miss), 1)} {'over' if miss > 0 else 'under'} what was asked"
    return (
        *((("before pruning, in fp32", milliseconds(over), ""),) if over else ()),
        ("before pruning", milliseconds(times.whole_ms), faster(times.whole_ms) if over else ""),
        ("asked", milliseconds(times.wanted_ms), faster(times.wanted_ms)),
        ("predicted", milliseconds(times.predicted_ms), "before it was measured"),
        ("measured", milliseconds(times.measured_ms), f"{faster(times.measured_ms)}, {missed}"),
        ("fastest reachable", milliseconds(times.floor_ms), faster(times.floor_ms)),
    )


def _conditions(times: Times) -> str:
    """On what times were measured, and how sure they are."""
    noise = f" From round to round, times of single layers differed by up to {percent(times.noise, 1)}."
    return (
        f"Median times of {times.precision} files at batch {times.batch} on {times.target}, before any training "
        f"that followed.{noise if times.noise else ''}"
    )
