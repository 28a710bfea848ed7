"""Rules for any file: domains, functions, operator sets, paths that leaked into it, numbers that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from compress.exporting.graph import nested
from compress.exporting.lint.finding import Check
from compress.exporting.lint.view import View

ONNX = frozenset({"", "ai.onnx"})
MICROSOFT = frozenset({"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})
TRADITIONAL = frozenset({"ai.onnx.ml"})
PATH = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/){2,}[\w.+-]+|\b[A-Za-z]:\\[\w .+-]+\\")
Faults = Iterator[tuple[str, str]]


def foreign_domains(known: frozenset[str]) -> Check:
    """Operators that are not ONNX's own or the runtime's."""

    def check(view: View) -> Faults:
        for node in view.nodes:
            if node.domain not in known:
                yield view.label(node), f"{node.op_type} is of the domain {node.domain!r}"

    return check


def functions(view: View) -> Faults:
    """Functions of the file itself: the rules do not look into them."""
    if view.outermost:
        for function in view.model.functions:
            yield function.name, "is a function of the file, into which these rules do not look"


def operator_set(low: int, high: int) -> Check:
    """A version of ONNX's operator set that the runtime does not read."""

    def check(view: View) -> Faults:
        if view.outermost and not low <= view.opset <= high:
            yield "the file", f"is written in opset {view.opset}, and {low} to {high} can be read"

    return check


def absolute_paths(view: View) -> Faults:
    """Documentation and metadata with paths of the machine that made the file, as exporters leave them."""
    found: list[tuple[str, str]] = []
    things: list[tuple[str, Any]] = [("the graph", view.graph), *((view.label(node), node) for node in view.nodes)]
    if view.outermost:
        things.insert(0, ("the file", view.model))
    for name, thing in things:
        texts = [thing.doc_string, *(item.value for item in thing.metadata_props)]
        match = next((hit for text in texts if (hit := PATH.search(text))), None)
        if match is not None:
            found.append((name, match.group()))
    if found:
        (name, path), more = found[0], len(found) - 1
        yield name, f"its documentation names {path}" + (f" (as that of {more} others does)" if more else "")


def finite_weights(view: View) -> Faults:
    """Weights and biases that are no numbers."""
    for node in view.nodes:
        if nested(node) or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"):
            continue
        for name in node.input[1:]:
            array = view.arrays.get(name)
            if array is not None and array.dtype.kind not in "iub" and not np.isfinite(array.astype(np.float32)).all():
                yield view.label(node), f"{name} holds infinity or not-a-number"


def kernel_shape(view: View) -> Faults:
    """Convolutions without the attribute kernel_shape, which TensorRT's parser needs."""
    for node in view.of("Conv", "ConvTranspose"):
        if all(item.name != "kernel_shape" for item in node.attribute):
            yield view.label(node), "has no attribute kernel_shape"
