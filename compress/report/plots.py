"""The pictures of a report: inline SVG and a caption each, for every target that was measured."""

from __future__ import annotations

from dataclasses import dataclass

from compress.report.distributions import latency_distributions
from compress.report.operators_picture import operators_picture
from compress.report.pareto import pareto
from compress.report.rows import Report
from compress.report.time_section import TimeSection
from compress.report.tradeoff import accuracy_against_latency
from compress.report.waterfall import accuracy_by_stage, latency_by_stage
from compress.report.words import metric_name


@dataclass(frozen=True)
class Picture:
    """One picture: a heading, an `<svg>` element and what it shows in words."""

    title: str
    svg: str
    caption: str


def stage_pictures(report: Report) -> tuple[Picture, ...]:
    """The waterfall of accuracy and that of latency, those of them that there are numbers for."""
    name = metric_name(report.metric)
    drawn = [
        (f"{name[:1].upper()}{name[1:]} by stage", accuracy_by_stage(report)),
        ("Latency by stage", latency_by_stage(report)),
    ]
    return _pictures(drawn)


def target_pictures(report: Report, target: str) -> tuple[Picture, ...]:
    """Accuracy against latency, and the latency distributions, on one target."""
    name = metric_name(report.metric)
    drawn = [
        (f"{name[:1].upper()}{name[1:]} against latency", accuracy_against_latency(report, target)),
        ("Latency distributions", latency_distributions(report, target)),
    ]
    return _pictures(drawn)


def front_pictures(report: Report) -> tuple[Picture, ...]:
    """The best files of every target by accuracy and p90."""
    name = metric_name(report.metric)
    return _pictures([(f"The best files: {name} against p90 latency", pareto(report))])


def time_pictures(section: TimeSection | None) -> tuple[Picture, ...]:
    """The operators that cost most, in both files of a section."""
    if section is None or section.before is None or section.after is None:
        return ()
    before, after = section.words
    return _pictures(
        [(f"Time by operator, {before} and {after}", operators_picture(section.before, section.after, section.words))]
    )


def _pictures(drawn: list[tuple[str, tuple[str, str] | None]]) -> tuple[Picture, ...]:
    return tuple(Picture(title, *picture) for title, picture in drawn if picture is not None)
