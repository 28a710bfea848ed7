"""`report.html`: one file that needs no network, for a phone, a desk, the dark and the printer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.report.flips_section import flips_section
from compress.report.int8_section import rung_sections
from compress.report.method import environment_lines, method, total_seconds
from compress.report.model_card import model_card
from compress.report.plots import front_pictures, stage_pictures, target_pictures, time_pictures
from compress.report.pruned_section import pruned_sections
from compress.report.reading import read_rows
from compress.report.rows import Model, Report
from compress.report.table import DEVICE, device_table, files_table, models_table, steps_table, target_table
from compress.report.targets_section import targets_section
from compress.report.throughput_section import throughput_sections
from compress.report.time_section import other_time_sections, time_section
from compress.report.verdict import budget_table, verdict
from compress.report.words import percent

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "page.html.j2"
NO_BREAK_SPACE = "\u00a0"
UNITS = re.compile(
    r"(?<=\d) (?=(?:%|ms|s|B|kB|MB|GB|k|M|G|points|threads?|min|h)(?![a-z]))|(?<=\dx) (?=faster|smaller|slower|larger)"
)


def html_page(report: Mapping[str, Any]) -> str:
    """The page for the dictionary that `report.json` holds."""
    rows = read_rows(report)
    main = time_section(rows)
    sections = [*([main] if main is not None else []), *other_time_sections(rows)]
    template = templates().get_template(TEMPLATE)
    return template.render(
        report=rows,
        verdict=verdict(rows),
        budget=budget_table(rows),
        files=files_table(rows),
        models=models_table(rows),
        stage_pictures=stage_pictures(rows),
        pictures={target: target_pictures(rows, target) for target in rows.targets},
        other_targets={target: target_table(rows, target) for target in rows.targets if target != rows.target},
        device_caption=DEVICE,
        devices={target: device_table(rows, target) for target in rows.targets},
        fronts=front_pictures(rows),
        throughput=throughput_sections(rows),
        side_by_side=targets_section(rows),
        pruned=pruned_sections(rows),
        rungs=rung_sections(rows),
        times=[(section, time_pictures(section)) for section in sections],
        flips=flips_section(rows),
        card=model_card(rows),
        steps=steps_table(rows),
        took=total_seconds(rows),
        method=method(rows),
        environment=environment_lines(rows.environment),
        details=[(model, file_details(model)) for model in rows.files],
        contents=_contents(rows),
    )


def templates() -> jinja2.Environment:
    """The templates beside this file; what is written into them is escaped, what is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["together"] = together
    return environment


def together(text: str) -> str:
    """A number and its unit are not to be parted at the end of a line."""
    return UNITS.sub(NO_BREAK_SPACE, text)


def file_details(model: Model) -> list[tuple[str, str]]:
    """What the tables do not tell of a file: where it lies, its digest, how near it is to the model before it."""
    lines = [("path", model.path or ""), ("sha256", model.sha256 or ""), ("made from", model.parent or "")]
    lines += [(f"parity, {name.replace('_', ' ')}", _plain(value)) for name, value in model.parity.items()]
    if model.int8_share is not None:
        lines.append(("operators that ran in int8", percent(model.int8_share, 1)))
    lines += [("stayed in float", words) for words in _left_in_float(model)]
    return [(name, value) for name, value in lines if value]


def _left_in_float(model: Model) -> list[str]:
    """The operators that stayed in float, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for left in model.not_int8:
        by_reason.setdefault(left.reason, []).append(f"{left.name} ({left.operator})")
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _contents(report: Report) -> str:
    """What the page is, for the head of the document."""
    where = ", ".join(report.targets) or "no target"
    return f"Compression report of {report.name}: what each file costs and is worth on {where}"
