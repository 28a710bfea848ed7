"""`report.md`: the report as text, for a repository, a ticket or a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.report.cells import Cell
from compress.report.flips_section import Group, flips_section
from compress.report.int8_section import rung_sections
from compress.report.method import environment_lines, method, total_seconds
from compress.report.model_card import model_card
from compress.report.page import file_details
from compress.report.reading import read_rows
from compress.report.rows import Report
from compress.report.table import (
    DEVICE,
    Row,
    Table,
    device_table,
    files_table,
    markdown,
    models_table,
    steps_table,
    target_table,
)
from compress.report.targets_section import targets_section
from compress.report.throughput_section import throughput_sections
from compress.report.time_section import other_time_sections, time_section
from compress.report.verdict import budget_table, verdict


def markdown_card(report: Mapping[str, Any]) -> str:
    """The text for the dictionary that `report.json` holds."""
    rows = read_rows(report)
    said = verdict(rows)
    parts = [f"# {rows.name}: compression report\n", f"**{said.headline}.** {said.badge}. {' '.join(said.sentences)}\n"]
    if rows.notes:
        parts.append("".join(f"- {note}\n" for note in rows.notes))
    if card := model_card(rows):
        parts.append("## Model card\n")
        parts += [f"### {section.title}\n\n{_lines(list(section.lines))}" for section in card]
    return "\n".join([*parts, *_results(rows), *_explained(rows), *_made(rows)])


def _results(rows: Report) -> list[str]:
    """The budget, the files, the targets side by side, and the models on the way."""
    parts = []
    if rows.budget:
        parts += ["## Budget\n", markdown(budget_table(rows))]
    if rows.files:
        where = f"Measured on {rows.target}; speed and size against the reference; intervals are 95 %.\n"
        parts += ["## Files\n", where if rows.target else "No target was measured.\n", markdown(files_table(rows))]
    if rows.target and (device := device_table(rows, rows.target)).rows:
        parts += [f"{DEVICE}\n", markdown(device)]
    for throughput in throughput_sections(rows):
        parts += ["## Throughput\n", f"{throughput.caption}\n", markdown(throughput.table)]
    if (targets := targets_section(rows)) is not None:
        parts += ["## Targets\n", "".join(f"- {sentence}\n" for sentence in targets.sentences)]
        parts.append(markdown(targets.table))
    if (models := models_table(rows)).rows:
        parts += ["## The way there\n", markdown(models)]
    return parts


def _explained(rows: Report) -> list[str]:
    """What int8 did, where the time goes, which answers changed."""
    parts = []
    for section in rung_sections(rows):
        parts += [f"## {section.title}\n", " ".join(section.sentences) + "\n"]
        parts += [markdown(section.table)] if section.table.rows else []
    main = time_section(rows)
    for at, times in enumerate([*([main] if main is not None else []), *other_time_sections(rows)]):
        parts += [*([] if at else ["## Where the time goes\n"]), f"{times.said}\n"]
        parts += ["".join(f"- {reason}\n" for reason in times.reasons)] if times.reasons else []
        parts += [f"{times.caption}\n", markdown(times.table)] if times.table.rows else []
    if (flips := flips_section(rows)) is not None:
        parts += ["## Answers that changed\n", " ".join(flips.sentences) + "\n"]
        parts += ["".join(f"- {group.title}. Numbers: {group.numbers}\n" for group in flips.groups)]
        parts += [_changed(group) for group in flips.groups if group.examples]
    return parts


def _made(rows: Report) -> list[str]:
    """The other targets' tables, files in detail, steps, how it was measured, and where."""
    parts = []
    for target in rows.targets:
        if target != rows.target:
            parts += [f"## On {target}\n", markdown(target_table(rows, target))]
            parts += [markdown(device)] if (device := device_table(rows, target)).rows else []
    if rows.files:
        parts.append("## Files in detail\n")
        parts += [f"### {model.name}\n\n" + _lines(file_details(model)) for model in rows.files if file_details(model)]
    if rows.steps:
        parts += ["## Steps\n", f"{total_seconds(rows)}\n", markdown(steps_table(rows))]
    if told := method(rows):
        parts += ["## How it was measured\n", "".join(f"- {sentence}\n" for sentence in told)]
    if lines := environment_lines(rows.environment):
        parts += ["## Environment\n", _lines(lines)]
    return parts


def _changed(group: Group) -> str:
    """A table of the first examples; pictures are in the page only."""
    texts = any(example.texts for example in group.examples)
    headings = ("Number", "right", "before", "after", *(("text",) if texts else ()))
    rows = []
    for one in group.examples:
        cells = (str(one.index), one.right, one.before, one.after, *((" / ".join(one.texts),) if texts else ()))
        rows.append(Row(tuple(Cell(cell) for cell in cells)))
    return f"{group.title}:\n\n" + markdown(Table(headings, tuple(rows), frozenset(headings)))


def _lines(lines: list[tuple[str, str]]) -> str:
    return "".join(f"- {name}: {value}\n" for name, value in lines)
