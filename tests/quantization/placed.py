"""Operators of small networks, and what is decided for them."""

from __future__ import annotations

from compress.quantization.operators import Operator
from compress.quantization.placement import place


def names(operators: list[Operator]) -> tuple[set[str], dict[str, str]]:
    """The operators that run in int8, and the group of each tensor that is quantized."""
    placement = place(operators)
    return set(placement.integer), {point.tensor: point.group for point in placement.points}


def conv(output: str, source: str) -> Operator:
    return Operator(output, "conv", (source,))


def relu(output: str, source: str) -> Operator:
    return Operator(output, "relu", (source,), (0.0, float("inf")))
