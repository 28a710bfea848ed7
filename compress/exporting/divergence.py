"""The first operator of a file that differs: from another file, or from what the runtime makes of it.

Tensors are compared under the names that both graphs have. See `compress.exporting.divergence_torch` for the network
in torch, `compress.exporting.divergence_search` for the search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from compress.errors import UsageError
from compress.exporting.difference import Step
from compress.exporting.divergence_search import (
    EXACT,
    FLOAT,
    FLOAT16,
    FLOAT16_ONLY,
    Divergence,
    Point,
    Reference,
    Tolerance,
    Values,
    first_divergence,
)
from compress.exporting.graph import Array, Graph, reads
from compress.exporting.onnx_values import PLAIN, OnnxValues
from compress.exporting.shared_tensors import (
    Pair,
    coding_of,
    equal,
    grid_of,
    quantized,
    quantizer_of,
    shared,
)

FLOAT_REFERENCE = Tolerance(whole=0.05, alone=0.05, relative=0.5)
"""Against a float graph 8-bit rounding itself is a difference: only what changes values by much is found."""
ROUNDS = ("QuantizeLinear", "QLinear", "QGemm")
"""How the names of operators begin that round to integers."""
NEARLY = 0.01
"""How far scales of one tensor may be apart, relatively: float16 rounds them."""


def explain(
    reference: ModelProto | Path, candidate: ModelProto | Path, feeds: Mapping[str, Array]
) -> Divergence | None:
    """The first operator of `candidate` whose values differ from those of `reference` on one batch, or None.

    Graphs share tensor names: a canonical graph and an emission of it, or two emissions. With a float graph as the
    reference only faults that outweigh 8-bit rounding are found, between tensors that are float in both.

    Raises:
        UsageError: The graphs share no tensor that is computed.
    """
    ours, theirs = (OnnxValues(_loaded(model), feeds) for model in (reference, candidate))
    pairs = shared(ours, theirs)
    if not pairs:
        raise UsageError("divergence: the two graphs have no tensor in common: their operators cannot be compared")
    rounds = any(node.op_type == "QuantizeLinear" for node in ours.nodes)
    float_reference = not rounds and any(node.op_type == "QuantizeLinear" for node in theirs.nodes)
    grids = {name: scale for name, scale in quantized(ours.graph).items() if scale.axis is None}

    def values(names: Sequence[str]) -> Values:
        codings = {name: coding_of(grids[name]) if name in grids else PLAIN for name in names}
        return {name: codings[name].decode(array) for name, array in ours(names).items()}

    pairs = alike(pairs, ours.shapes([pair.source for pair in pairs]), theirs)
    return search(pairs, values, theirs, FLOAT_REFERENCE if float_reference else None)


def explain_optimizations(
    model: Path, feeds: Mapping[str, Array], optimized: ModelProto | None = None
) -> Divergence | None:
    """The first operator that the runtime's own optimizations make differ, or None if none is found.

    The graph that ONNX Runtime saves after its optimizations is compared with the file at the tensors that fusions
    left. First without those that are of this machine only, then with them.
    """
    if optimized is not None:
        return explain(model, optimized, feeds)
    for everything in (False, True):
        found = explain(model, optimized_graph(model, everything), feeds)
        if found is not None:
            return found
    return None


def search(
    pairs: Sequence[Pair],
    reference: Reference,
    file: OnnxValues,
    tolerance: Tolerance | None = None,
) -> Divergence | None:
    """Bisect between pairs of tensors; `reference` computes floats by the names that it has for them."""
    by_tensor = {pair.tensor: pair for pair in pairs}

    def expected(names: Sequence[str]) -> Values:
        found = reference(list(dict.fromkeys(by_tensor[name].source for name in names)))
        return {name: found[by_tensor[name].source] for name in names}

    def computed(names: Sequence[str], given: Mapping[str, Array]) -> Values:
        put_in = {name: by_tensor[name].coding.encode(array) for name, array in given.items()}
        return {name: by_tensor[name].coding.decode(array) for name, array in file(names, put_in).items()}

    found = first_divergence(points_of(pairs, file), expected, computed, tolerance=tolerance or _tolerance(file))
    return None if found is None else _blame(found, file.graph, by_tensor[found.tensor].step)


def alike(pairs: Sequence[Pair], shapes: Mapping[str, tuple[int, ...]], file: OnnxValues) -> list[Pair]:
    """The pairs of one shape: an emission may compute a tensor in another layout, or only the part that is read."""
    found = file.shapes([pair.tensor for pair in pairs])
    return [pair for pair in pairs if pair.cut(found[pair.tensor]) == shapes[pair.source]]


def _tolerance(file: OnnxValues) -> Tolerance:
    """What rounding explains in a file of this precision."""
    if any(node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear") for node in file.nodes):
        return FLOAT16 if file.narrow else EXACT
    return FLOAT16_ONLY if file.narrow else FLOAT


def points_of(pairs: Sequence[Pair], file: OnnxValues) -> list[Point]:
    """Points in the order in which the file computes them, each with what it is computed from."""
    known = {pair.tensor: pair for pair in pairs}
    points = []
    for node in file.nodes:
        for tensor in node.output:
            if tensor in known:
                inputs, nodes = _between(file, node, set(known))
                names = tuple(item.name or item.op_type for item in reversed(nodes))
                named = _named(nodes)
                roundings = sum(item.op_type.startswith(ROUNDS) for item in nodes)
                step = known[tensor].step
                points.append(Point(tensor, named.name or named.op_type, named.op_type, inputs, names, step, roundings))
    return points


def _between(file: OnnxValues, node: NodeProto, known: set[str]) -> tuple[tuple[str, ...], list[NodeProto]]:
    """The known tensors that `node` is computed from, and the operators from there, `node` first."""
    inputs: dict[str, None] = {}
    nodes: list[NodeProto] = []
    pending, seen = [node], {id(node)}
    while pending:
        current = pending.pop(0)
        nodes.append(current)
        for name in reads(current):
            writer = file.writers.get(name)
            if name in known and writer is not None:
                inputs[name] = None
            elif writer is not None and id(writer) not in seen:
                seen.add(id(writer))
                pending.append(writer)
    return tuple(inputs), [item for item in nodes if item is node or _works(item, nodes, file.inputs.union(inputs))]


def _works(node: NodeProto, nodes: Sequence[NodeProto], inputs: set[str]) -> bool:
    """Whether an operator turns known values into others, or scales a constant; not if it only works out shapes."""
    if node.op_type == "DequantizeLinear":
        return True
    touched = set(inputs)
    while True:
        working = [item for item in nodes if item.op_type != "Shape" and touched.intersection(reads(item))]
        more = {name for item in working for name in item.output} - touched
        if not more:
            return bool(touched.intersection(node.output))
        touched |= more


def _named(nodes: Sequence[NodeProto]) -> NodeProto:
    """The operator to call a group by: the layer of a bias that is added apart, else the last one."""
    first = nodes[0]
    layers = [node for node in nodes[1:2] if node.op_type == "MatMul" and first.op_type == "Add"]
    return layers[0] if layers else first


def _blame(found: Divergence, graph: Graph, step: Step) -> Divergence:
    """Within a group of operators, of two that should have one scale the one that has another than the reference."""
    nodes = {node.name: node for node in graph.nodes if node.name}
    for name in found.operators:
        node = nodes.get(name)
        source = None if node is None else quantizer_of(graph, node)
        if node is None or source is None:
            continue
        grids = [grid_of(graph, item) for item in (node, source)]
        mine, other = grids
        if mine is None or other is None or mine.axis is not None or other.axis is not None or equal(mine, other):
            continue
        wrong, right = (node, source)
        if (
            source.name in found.operators
            and isinstance(step, float)
            and np.isclose(float(mine.scale), step, rtol=NEARLY)
        ):
            wrong, right, mine, other = source, node, other, mine
        hint = (
            f"it has scale {float(mine.scale):.6g} and zero point {int(mine.zero_point)}, while {right.name!r} has "
            f"{float(other.scale):.6g} and {int(other.zero_point)}"
        )
        return replace(found, operator=wrong.name, kind=wrong.op_type, hint=hint)
    return found


def optimized_graph(model: Path, everything: bool) -> ModelProto:
    """The graph that ONNX Runtime's CPU provider makes of a file, with or without layouts of this machine only."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if everything else levels.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def _loaded(model: ModelProto | Path) -> ModelProto:
    return onnx.load(model) if isinstance(model, Path) else model
