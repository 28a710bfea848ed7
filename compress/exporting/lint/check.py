"""A graph against the rules of a profile."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from compress.errors import StageError
from compress.exporting.lint.finding import Finding
from compress.exporting.lint.table import PROFILES
from compress.exporting.lint.view import views

SHOWN = 5


def lint(model: ModelProto, profile: str) -> list[Finding]:
    """All that is wrong with a graph, and with the graphs within it, for one of PROFILES; errors first.

    Raises:
        onnx.shape_inference.InferenceError: types or shapes that the file declares contradict its operators.
    """
    found = [finding for view in views(model) for rule in PROFILES[profile] for finding in rule.findings(view)]
    return sorted(found, key=lambda finding: finding.severity != "error")


def refuse(findings: Sequence[Finding], name: str, profile: str) -> None:
    """Nothing, unless there are errors.

    Raises:
        StageError: there are; it names the first of them.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        told = "; ".join(f"{item.node} {item.message} ({item.rule}: {item.advice})" for item in errors[:SHOWN])
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise StageError(f"export: {name} is not what {profile} needs: {told}{more}")
