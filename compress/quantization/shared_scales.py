"""Which quantized tensors have one scale: what a concat reads and writes, and without zero points residual sums."""

from __future__ import annotations

from compress.quantization.operators import Bounds, OperatorGraph, Role

RECTIFIED: Bounds = (0.0, float("inf"))
POOLS = frozenset({"average_pool", "global_average_pool"})


def groups_of_scale(graph: OperatorGraph, integer: set[str], needed: set[str]) -> dict[str, str]:
    """Tensors that share a scale, named after the first of them.

    Tensors of unequal bounds are not tied by a concat: a relu folds only into a range that begins at 0.
    """
    group = {tensor: tensor for tensor in graph.tensors if tensor in needed}

    def find(tensor: str) -> str:
        while group[tensor] != tensor:
            tensor = group[tensor]
        return tensor

    for operator in graph.operators:
        if operator.output not in integer or operator.role is not Role.JOINS:
            continue
        roots = [graph.root(tensor) for tensor in operator.inputs]
        if len({graph.bounds(tensor) for tensor in roots}) > 1:
            continue
        first = min((find(tensor) for tensor in roots), key=graph.tensors.index)
        for tensor in roots:
            group[find(tensor)] = first
    for operator in graph.operators:
        if operator.output in integer and operator.role is Role.JOINS:
            output, tied = graph.written(operator.output), {find(graph.root(tensor)) for tensor in operator.inputs}
            if len(tied) == 1 and graph.bounds(output) in (None, graph.bounds(next(iter(tied)))):
                group[output] = next(iter(tied))
    return {tensor: find(tensor) for tensor in group}


def join_sums(graph: OperatorGraph, integer: set[str], groups: dict[str, str], bounds: dict[str, Bounds]) -> None:
    """One scale for what a residual sum reads and what it writes, so that rounding the branch changes nothing.

    TensorRT computes convolution, sum and relu as one and rounds once; ONNX Runtime rounds the convolution's output
    first. If the skip holds multiples k s of the scale s, then round(b / s) + k = round(b / s + k): the integers are
    the same, and one training serves both. A branch below -128 s is cut off, where the relu makes 0 of the sum anyway,
    so that the range is that of the others. A sum that only a pool reads is left alone: there a rounding more decides
    no other, and its range is often larger.
    """
    between = integer - {operator.output for operator in graph.operators if operator.kind in POOLS}
    branches: set[str] = set()
    joined: set[str] = set()
    for operator in graph.operators:
        if operator.kind != "add" or operator.output not in integer:
            continue
        tensors = [*(graph.root(tensor) for tensor in operator.inputs), graph.written(operator.output)]
        branch = graph.branch(operator)
        if branch is None or not graph.feeds_integer(tensors[-1], between):
            continue
        if any(bounds[tensor] not in (None, RECTIFIED) for tensor in tensors):
            continue
        tied = {groups[tensor] for tensor in tensors}
        first = min(tied, key=graph.tensors.index)
        groups.update({tensor: first for tensor, group in groups.items() if group in tied})
        branches.add(branch)
        joined = (joined - tied) | {first}
    for group in joined:
        members = [tensor for tensor, name in groups.items() if name == group]
        kept = {bounds[tensor] for tensor in members if tensor not in branches}
        bounds.update(dict.fromkeys(members, kept.pop() if len(kept) == 1 else None))
