"""`compress lint MODEL.onnx --for PROFILE`: any ONNX file, no pipeline."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, checker, external_data_helper

from compress.errors import FindingsError, UsageError
from compress.exporting.lint.check import lint
from compress.exporting.lint.table import PROFILES
from compress.suggest import unknown

MOBILE = b"ORTM"
"""What stands after four bytes in a file of ONNX Runtime's mobile format."""


def lint_bare_file(path: Path, profile: str) -> dict[str, Any]:
    """What is wrong with a file for a profile, as plain data: counts and findings, errors first.

    Raises:
        UsageError: there is no such profile, or the file cannot be read.
    """
    if profile not in PROFILES:
        raise UsageError(f"--for: {unknown('profile', profile, PROFILES)}")
    model = read(path)
    try:
        findings = lint(model, profile)
    except onnx.shape_inference.InferenceError as error:
        raise UsageError(f"{path}: its types or shapes contradict each other: {_first_line(error)}") from error
    counts = Counter(finding.severity for finding in findings)
    return {
        "model": path.name,
        "for": profile,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "findings": [finding.as_json() for finding in findings],
    }


def read(path: Path) -> ModelProto:
    """An ONNX file with its weights, checked by ONNX's own checker.

    Raises:
        UsageError: it is none, it is broken, or its weights are elsewhere and not there.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if content[4:8] == MOBILE:
        raise UsageError(f"{path}: is in ONNX Runtime's mobile format; lint the .onnx file that it was made of")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise UsageError(f"{path}: is not an ONNX file, or is cut off: it cannot be decoded") from error
    if not model.ir_version or not model.HasField("graph"):
        raise UsageError(f"{path}: is not an ONNX file: there is no graph in it")
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        checker.check_model(str(path))
    except (checker.ValidationError, OSError, ValueError) as error:
        raise UsageError(f"{path}: is no valid ONNX file: {_first_line(error)}") from error
    return model


def lines(linted: dict[str, Any]) -> list[str]:
    """What `lint_bare_file` gave, for a terminal: a line for each finding, and the sum."""
    told = [
        f"{item['severity']:7} {item['rule']}: {item['node']}: {item['message']}; {item['advice']}"
        for item in linted["findings"]
    ]
    counts = f"{_count(linted['errors'], 'error')}, {_count(linted['warnings'], 'warning')}"
    return [*told, f"{linted['model']} for {linted['for']}: {counts if told else 'nothing wrong'}"]


def fail_on_errors(linted: dict[str, Any]) -> None:
    """Nothing, unless there are errors.

    Raises:
        FindingsError: there are.
    """
    if linted["errors"]:
        raise FindingsError(f"{linted['model']} is not fit for {linted['for']}: {_count(linted['errors'], 'error')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
