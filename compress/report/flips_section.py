"""What the report says of test examples whose class changed between the reference's file and the deployed one."""

from __future__ import annotations

from dataclasses import dataclass

from compress.report.flip_rows import Example, Flips
from compress.report.rows import Report
from compress.report.words import interval, percent, rounded

NUMBERS = 60
"""Of more examples only the first numbers are listed; `report.json` has all."""
TITLES = {
    "became_wrong": "Became wrong",
    "became_right": "Became right",
    "stayed_wrong": "Wrong before and after, in another way",
}


@dataclass(frozen=True)
class Group:
    """The examples of one kind: the first to be looked at, and the numbers of all in the test data."""

    title: str
    examples: tuple[Example, ...]
    numbers: str


@dataclass(frozen=True)
class FlipsSection:
    """Sentences, then a group for each kind that there is."""

    sentences: tuple[str, ...]
    groups: tuple[Group, ...]


def flips_section(report: Report) -> FlipsSection | None:
    """None where there are no classes, or nothing to hold against the reference."""
    flips = report.flips
    if flips is None or flips.file == flips.reference:
        return None
    groups = []
    for kind, title in TITLES.items():
        if numbers := getattr(flips, kind):
            shown = flips.of_kind(kind)
            heading = f"{title}: {len(numbers)}" + (f", the first {len(shown)} shown" if shown else "")
            heading = heading.replace(f", the first {len(numbers)} shown", "")
            groups.append(Group(heading, shown, _numbers(numbers)))
    return FlipsSection(_sentences(flips), tuple(groups))


def _sentences(flips: Flips) -> tuple[str, ...]:
    wrong, right, stayed = len(flips.became_wrong), len(flips.became_right), len(flips.stayed_wrong)
    if not wrong + right + stayed:
        return (f"{flips.file} puts all {flips.examples:,} test examples into the class that {flips.reference} does.",)
    first = (
        f"Of {flips.examples:,} test examples {wrong} that {flips.reference} has right {_are(wrong)} wrong in "
        f"{flips.file}, and {right} that it has wrong {_are(right)} right."
    )
    if stayed:
        first += f" {stayed} went from one wrong class to another."
    ends = interval(flips.rate_ci95, percent)
    second = (
        f"The negative flip rate (Yan et al. 2021, Positive-Congruent Training) is {percent(flips.rate)}, with a 95 % "
        f"interval of {ends}."
    )
    chance = "may be chance" if flips.p_value > 0.05 else "is more than chance alone makes likely"
    third = (
        f"That {'more became wrong than right' if wrong > right else 'more became right than wrong'} {chance} "
        f"(McNemar's exact test: p = {rounded(flips.p_value, 2)})."
    )
    return (first, second) if wrong == right else (first, second, third)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _numbers(numbers: tuple[int, ...]) -> str:
    more = f" and {len(numbers) - NUMBERS:,} more, all in report.json" if len(numbers) > NUMBERS else ""
    return ", ".join(map(str, numbers[:NUMBERS])) + more
