"""For TensorRT: int8 without zero points, quantized only where an int8 layer reads, in float16 where floats remain.

TensorRT (11, strongly typed) takes precision from the graph. It fuses the quantization before a convolution, and a sum
and relu behind it; a convolution whose output is quantized for float readers, or before a sum, costs a kernel more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from compress.errors import StageError
from compress.exporting.canonical import same_scale
from compress.exporting.element_types import at_least
from compress.exporting.emissions.narrow import narrow
from compress.exporting.graph import Graph, attribute, nested

OPSET = 19
"""The first in which scales may be float16."""
SMALLEST, SMALLEST_NORMAL = 2.0**-24, 2.0**-14
"""The least positive numbers of float16, and the least of its full precision."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
PASSES = frozenset(
    {"Clip", "Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Resize", "Slice"}
    | {"Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators behind which an int8 layer may read what they were given."""
FUSED = PASSES | POOLS | frozenset({"Add", "DequantizeLinear", "QuantizeLinear"})


def emit(canonical: ModelProto) -> ModelProto:
    """The graph to deploy: in surroundings of float16, or of float32 where nothing would be gained by float16.

    That is where all that is float lies inside of int8 kernels (`is_all_integer`): their epilogues compute in float32
    anyway, no tensor in memory is wider for it, and scales and biases stay those that were trained.

    Raises:
        StageError: activations have zero points.
    """
    wide = emit_float32(canonical)
    return wide if is_all_integer(Graph(wide.graph)) else _narrowed(wide)


def emit_float16(canonical: ModelProto) -> ModelProto:
    """Scales, weights and float operators in float16; inputs and outputs stay float32. Raises as `emit`."""
    return _narrowed(emit_float32(canonical))


def _narrowed(wide: ModelProto) -> ModelProto:
    result = at_least(wide, OPSET)
    graph = Graph(result.graph)
    _keep_scales_in_range(graph)
    graph.write()
    return narrow(result, TensorProto.FLOAT16)


def emit_float32(canonical: ModelProto) -> ModelProto:
    """Everything that is float in float32; raises as `emit`."""
    result = ModelProto()
    result.CopyFrom(canonical)
    graph = Graph(result.graph)
    _refuse_zero_points(graph)
    for add in [node for node in graph.nodes if node.op_type == "Add"]:
        _fuse_into_convolution(graph, add)
    for node in [node for node in graph.nodes if _is_activation(graph, node)]:
        if not _reaches_integer(graph, node.output[0]):
            _drop(graph, node)
    for concat in [node for node in graph.nodes if node.op_type == "Concat"]:
        _join_with_one_scale(graph, concat)
    _complete_kernel_shapes(graph.sorted_nodes(), {name: array.shape for name, array in graph.arrays.items()})
    graph.write()
    return result


def is_all_integer(graph: Graph) -> bool:
    """Whether a graph consists of int8 layers and of what TensorRT fuses with them, or computes on int8 as it is."""
    writers = graph.writers()
    return all(
        node.op_type in FUSED or (node.op_type in WEIGHTED and _is_integer(node, writers)) for node in graph.nodes
    )


def _is_activation(graph: Graph, node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear" and node.input[0] not in graph.arrays


def _refuse_zero_points(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and graph.arrays[node.input[2]].any():
            raise StageError(
                f"export: {node.name} has a zero point, and TensorRT takes none: set `grid: symmetric` on the "
                "quantize stage"
            )


def _fuse_into_convolution(graph: Graph, add: NodeProto) -> None:
    """Of what a sum reads, the output of the last convolution that only it reads stays float: conv + add + relu."""
    writers, readers = graph.writers(), graph.readers()
    found = []
    for name in add.input:
        node = writers.get(name)
        if node is None or not _is_activation(graph, node) or len(readers[name]) != 1 or name in graph.outputs:
            continue
        quantize = writers[node.input[0]]
        layer = writers.get(quantize.input[0])
        if layer is not None and layer.op_type in WEIGHTED and len(readers[quantize.input[0]]) == 1:
            found.append((graph.nodes.index(layer), node))
    if found:
        _drop(graph, max(found, key=lambda item: item[0])[1])


def _reaches_integer(graph: Graph, tensor: str) -> bool:
    """Whether an int8 layer, a pool or a sum's skip branch reads a tensor, behind what only moves or clips values."""
    writers, readers = graph.writers(), graph.readers()
    pending, seen = [tensor], {tensor}
    while pending:
        name = pending.pop()
        for node in readers[name]:
            if node.op_type in POOLS or (node.op_type in WEIGHTED and _is_integer(node, writers)):
                return True
            if node.op_type == "Add" and any(_layer_writes(other, writers) for other in node.input if other != name):
                return True
            if node.op_type in PASSES and node.output[0] not in seen:
                seen.add(node.output[0])
                pending.append(node.output[0])
    return False


def _is_integer(node: NodeProto, writers: dict[str, NodeProto]) -> bool:
    return all(name in writers and writers[name].op_type == "DequantizeLinear" for name in node.input[1:2])


def _layer_writes(name: str, writers: dict[str, NodeProto]) -> bool:
    return name in writers and writers[name].op_type in WEIGHTED


def _drop(graph: Graph, dequantize: NodeProto) -> None:
    """Let the readers of a dequantized tensor read what was quantized."""
    name, source = dequantize.output[0], graph.writers()[dequantize.input[0]].input[0]
    graph.nodes.remove(dequantize)
    graph.rename_reads(name, source)
    if name in graph.outputs:
        graph.rename_reads(source, name)
        for node in graph.nodes:
            for i, output in enumerate(node.output):
                if output == source:
                    node.output[i] = name


def _join_with_one_scale(graph: Graph, concat: NodeProto) -> None:
    """Quantize what a quantized concatenation reads with its own scale, which changes no number."""
    readers, writers = graph.readers(), graph.writers()
    behind = readers[concat.output[0]]
    if len(behind) != 1 or behind[0].op_type != "QuantizeLinear":
        return
    quantize = behind[0]
    for i, name in enumerate(concat.input):
        writer = writers.get(name)
        if writer is not None and _is_activation(graph, writer) and same_scale(graph, writer, quantize):
            continue
        label = f"{concat.name}_input_{i}"
        scale = list(quantize.input[1:3])
        graph.nodes += [
            helper.make_node("QuantizeLinear", [name, *scale], [f"{label}_quantized"], f"{label}_quantize"),
            helper.make_node("DequantizeLinear", [f"{label}_quantized", *scale], [label], f"{label}_dequantize"),
        ]
        concat.input[i] = label


def _keep_scales_in_range(graph: Graph) -> None:
    """Scales that float16 would round to 0, or coarsely, become what it has, and weights are rounded to those."""
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = graph.arrays[node.input[1]]
        if (scale >= SMALLEST_NORMAL).all():
            continue
        rounded = np.maximum(scale, SMALLEST).astype(np.float16).astype(np.float32)
        if node.input[0] in graph.arrays:
            shape = [1] * graph.arrays[node.input[0]].ndim
            shape[attribute(node, "axis", 1) if scale.ndim else 0] = -1
            integers = graph.arrays[node.input[0]] * (scale / rounded).reshape(shape)
            limited = np.clip(np.rint(integers), -127, 127).astype(np.int8)
            node.input[0] = graph.add_array(f"{node.input[0]}_rounded", limited)
        node.input[1] = graph.add_array(f"{node.input[1]}_rounded", rounded)


def _complete_kernel_shapes(nodes: Iterable[NodeProto], known: Mapping[str, Sequence[int]]) -> None:
    """TensorRT needs the sizes of a kernel as an attribute, which ONNX lets be told from the weights.

    `known` are the shapes of constants; operators of graphs within operators are completed too.
    """
    shapes = dict(known)
    for node in nodes:
        if node.op_type == "Constant" and attribute(node, "value") is not None:
            shapes[node.output[0]] = list(attribute(node, "value").dims)
        elif node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
        for inner in nested(node):
            _complete_kernel_shapes(inner.node, shapes | {item.name: list(item.dims) for item in inner.initializer})
        if node.op_type not in ("Conv", "ConvTranspose") or attribute(node, "kernel_shape") is not None:
            continue
        if node.input[1] in shapes:
            node.attribute.append(helper.make_attribute("kernel_shape", shapes[node.input[1]][2:]))
