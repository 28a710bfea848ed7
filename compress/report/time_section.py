"""Where the time of the files goes: kinds of operators before and after, and whether and why int8 pays or does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compress.report.cells import Cell
from compress.report.int8_rows import Operators
from compress.report.operators import by_family, total
from compress.report.rows import Model, Report
from compress.report.table import Row, Table
from compress.report.targets_section import told_on
from compress.report.words import ABSENT, listed, percent, ratio, rounded, size

SHOWN, SMALLEST_SHARE, NAMED = 12, 0.01, 4
"""Lines of kinds of operators, the least share of the time that has one, and how many of the others are named."""


@dataclass(frozen=True)
class TimeSection:
    """Two files side by side: what is said of them and why, and the time of each kind of operator in both.

    `before` and `after` are the files, None where nobody asked their runtime; `words` are what they are called.
    """

    said: str
    reasons: tuple[str, ...]
    caption: str
    table: Table
    before: Model | None = None
    after: Model | None = None
    words: tuple[str, str] = ("float", "int8")


def time_section(report: Report) -> TimeSection | None:
    """The float file beside the int8 file that it is about; without int8 the reference's file beside the one to deploy.

    None if neither can be told.
    """
    if report.int8 is None:
        return _before_and_after(report)
    floating, int8 = report.row(report.int8.over), report.row(report.int8.file)
    said, reasons = _sentence(report.int8.said), report.int8.reasons
    if floating is None or int8 is None or not floating.operators or not int8.operators:
        return TimeSection(said, reasons, "", Table((), ()))
    table, words = operator_table(floating, int8), ("float", "int8")
    return TimeSection(said, reasons, _caption(report.target, floating, int8, words), table, floating, int8, words)


def other_time_sections(report: Report) -> tuple[TimeSection, ...]:
    """On each other target that told its operators' times: the reference's file beside the one that it is told of by.

    What an emulator takes says nothing, and is left out.
    """
    found = []
    for target in report.targets:
        before, after = report.reference_file, told_on(report, target)
        if target == report.target or report.is_emulated(target) or before is None or after is None or before is after:
            continue
        theirs, ours = (replace(one, operators=one.operators_by_target.get(target, ())) for one in (before, after))
        if theirs.operators and ours.operators:
            words = ("before", "after")
            said = f"On {target}: {after.name} beside {before.name}."
            table, caption = operator_table(theirs, ours, words), _caption(target, theirs, ours, words)
            found.append(TimeSection(said, (), caption, table, theirs, ours, words))
    return tuple(found)


def _before_and_after(report: Report) -> TimeSection | None:
    before, after = report.reference_file, report.told
    if before is None or after is None or before is after or not before.operators or not after.operators:
        return None
    words = ("before", "after")
    table = operator_table(before, after, words)
    said = f"{after.name} beside {before.name}."
    return TimeSection(said, (), _caption(report.target, before, after, words), table, before, after, words)


def _caption(target: str | None, before: Model, after: Model, words: tuple[str, str]) -> str:
    latency = after.on(target)
    batch = f" at batch {latency.batch}" if latency else ""
    first, second = words
    return (
        f"Microseconds of one call{batch} by kind of operator, as the runtime itself counts them on {target}; "
        "small: how many there are, and their share of the file's time. Counting takes time itself, so that the sum is "
        f"more than the file's latency. {first[:1].upper()}{first[1:]}: {_sized(before)}; {second}: {_sized(after)}."
    )


def _sized(model: Model) -> str:
    return model.name if model.size_bytes is None else f"{model.name}, a file of {size(model.size_bytes)}"


def operator_table(floating: Model, int8: Model, words: tuple[str, str] = ("float", "int8")) -> Table:
    """A line for each kind of operator, in int8 beside what it is in float; the dearest first, then all together."""
    before, after = by_family(floating.operators), by_family(int8.operators)
    whole_before, whole_after = total(floating.operators), total(int8.operators)

    def dearest(family: str) -> float:
        return max(total(before.get(family, ())), total(after.get(family, ())))

    order = sorted({**before, **after}, key=dearest, reverse=True)
    large = [one for one in order if dearest(one) >= SMALLEST_SHARE * max(whole_before, whole_after)][:SHOWN]
    rows = []
    for family in large:
        ours, theirs = after.get(family, ()), before.get(family, ())
        kinds = dict.fromkeys(kind.operator for kind in (*theirs, *ours))
        named = Cell(family, "" if list(kinds) == [family] else ", ".join(kinds))
        rows.append(_row(named, theirs, ours, whole_before, whole_after))
    if small := [one for one in order if one not in large]:
        theirs, ours = ([kind for one in small for kind in side.get(one, ())] for side in (before, after))
        rows.append(_row(Cell("others", _few(small)), theirs, ours, whole_before, whole_after))
    rows.append(_row(Cell("all"), floating.operators, int8.operators, whole_before, whole_after))
    return Table(("Operator", f"{words[0]}, µs", f"{words[1]}, µs", "speedup"), tuple(rows))


def _few(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return listed([*names[:NAMED], *more])


def _row(named: Cell, theirs: Sequence[Operators], ours: Sequence[Operators], before: float, after: float) -> Row:
    times = total(theirs), total(ours)
    faster = ratio(times[0] / times[1]) if min(times) > 0 else ABSENT
    return Row((named, _spent(theirs, before), _spent(ours, after), Cell(faster)))


def _spent(kinds: Sequence[Operators], whole: float) -> Cell:
    if not kinds:
        return Cell(ABSENT)
    spent, many = total(kinds), sum(kind.count for kind in kinds)
    return Cell(rounded(spent), f"{many} · {percent(spent / whole, 0)}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
