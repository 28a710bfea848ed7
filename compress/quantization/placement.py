"""Which operators of a graph run in int8, and which tensors are quantized for them: one rule over neutral operators.

What the rule rests on: ONNX Runtime runs an operator in int8 only if its inputs and its output are quantized; a
convolution's output always is; what only moves values keeps its input's scale; what has no int8 kernel stays float,
with nothing quantized around it but what its neighbours need. Which tensors then have one scale: `shared_scales`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.quantization.operators import BETWEEN, WEIGHTED, Bounds, Operator, OperatorGraph, Role
from compress.quantization.shared_scales import groups_of_scale, join_sums


@dataclass(frozen=True)
class Point:
    """A tensor that is quantized.

    `readers` are the outputs of the operators that read the quantized tensor, or None for all; `group` is the name
    that tensors of one scale share; `bounds` limit the range of that scale: what a folded relu or clip leaves,
    or what the operator can write.
    """

    tensor: str
    group: str
    readers: frozenset[str] | None
    bounds: Bounds


@dataclass(frozen=True)
class Placement:
    """The decision: operators (by their output) that run in int8, and where tensors are quantized, in graph order."""

    integer: frozenset[str]
    points: tuple[Point, ...]


def place(operators: Sequence[Operator], *, symmetric: bool = False) -> Placement:
    """Decide for a graph, given in an order in which it can be computed; graph inputs are what nothing writes.

    `symmetric` is the grid without zero points, on which residual sums have one scale: see `shared_scales.join_sums`.
    """
    graph = OperatorGraph(operators)
    integer = _settle(graph)
    needed, everywhere = _quantized_tensors(graph, integer)
    groups = groups_of_scale(graph, integer, needed)
    bounds = {tensor: graph.bounds(tensor) for tensor in groups}
    if symmetric:
        join_sums(graph, integer, groups, bounds)
    points = []
    for tensor in graph.tensors:
        if tensor in needed:
            readers = None if tensor in everywhere else frozenset(graph.readers_towards(tensor, integer))
            points.append(Point(tensor, groups[tensor], readers, bounds[tensor]))
    return Placement(frozenset(integer), tuple(points))


def _settle(graph: OperatorGraph) -> set[str]:
    """Operators that run in int8: all that could, less those between floats, until nothing changes."""
    integer = {o.output for o in graph.operators if o.role in WEIGHTED | BETWEEN}
    while True:
        lonely = {
            o.output
            for o in graph.operators
            if o.output in integer
            and o.role in BETWEEN
            and not (
                graph.feeds_integer(o.output, integer)
                and all(graph.writer(graph.root(tensor)) in integer for tensor in o.inputs)
                and not (o.role is Role.CURVES and graph.follows_linear(o))
            )
        }
        if not lonely:
            return integer
        integer -= lonely


def _quantized_tensors(graph: OperatorGraph, integer: set[str]) -> tuple[set[str], set[str]]:
    """Tensors to quantize, and those of them that int8 operators wrote: all who read these see quantized values."""
    needed: set[str] = set()
    everywhere: set[str] = set()
    for operator in graph.operators:
        if operator.output not in integer:
            continue
        needed.update(graph.root(tensor) for tensor in operator.inputs)
        if operator.role is not Role.WEIGHTED_OR_FLOAT_OUT or graph.feeds_integer(operator.output, integer):
            needed.add(graph.written(operator.output))
    everywhere.update(tensor for tensor in needed if graph.writer(tensor) in integer)
    return needed, everywhere
