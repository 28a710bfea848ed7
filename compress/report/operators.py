"""Kinds of operators by what they compute, whatever the runtime calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from compress.report.int8_rows import Operators

FAMILIES = {
    "ConvInteger": "Conv",
    "DynamicQuantizeMatMul": "MatMul",
    "GatherBlockQuantized": "Gather",
    "MatMulInteger": "MatMul",
    "MatMulIntegerToFloat": "MatMul",
    "MatMulNBits": "MatMul",
    "QAttention": "Attention",
    "QGemm": "Gemm",
}
"""Operators in int8 -> what they are in float, where the name alone does not tell."""


def total(kinds: Sequence[Operators]) -> float:
    """The microseconds of all of them."""
    return sum(kind.microseconds for kind in kinds)


def by_family(kinds: Sequence[Operators]) -> dict[str, list[Operators]]:
    """The kinds that are forms of one operator, under its name."""
    found: dict[str, list[Operators]] = {}
    for kind in kinds:
        found.setdefault(family(kind.operator), []).append(kind)
    return found


def family(operator: str) -> str:
    """What an operator of the runtime's own is a form of: QLinearConv and FusedConv are Conv."""
    return FAMILIES.get(operator) or re.sub(r"^(QLinear|Fused|Nhwc)+(?=[A-Z])", "", operator)
