"""Any float ONNX file, opened as the kind of graph that the rest of the package knows: one operator set, folded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from compress.errors import StageError, UsageError
from compress.exporting.graph import Graph, attribute, nested
from compress.exporting.pooling import pool_globally
from compress.exporting.simplify import simplify
from compress.exporting.torch_onnx import DEFAULT_OPSET, PRODUCER

OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
QUANTIZED = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "MatMulNBits",
    "GatherBlockQuantized",
)  # fmt: skip
IR_VERSION = 8
LOADING = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed: ?)?")
"""What ONNX Runtime puts before its messages."""
LARGEST = 2**31 - 1
"""Bytes of a serialized graph: protobuf's limit."""


def open_float(path: Path) -> ModelProto:
    """A file's graph with opset 18 or later, batch norms folded and constants computed, documentation dropped.

    Raises:
        UsageError: There is no such file, or it is no float ONNX graph that ONNX Runtime loads.
    """
    proto = load(path)
    _refuse_what_is_quantized(path, proto)
    try:
        _forget_shapes(proto)
        _make_weights_constant(proto)
        proto = _current(proto)
        _make_weights_constant(proto)
        proto = folded(proto)
    except StageError as error:
        raise UsageError(f"{path}: {error}") from error
    tidy(proto)
    return proto


def load(path: Path) -> ModelProto:
    """Read an ONNX file with all its weights.

    Raises:
        UsageError: It is missing, is no ONNX file, or lacks its external data.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common base
        raise UsageError(f"{path}: not an ONNX file: {_first_line(error)}") from error
    if not proto.graph.node:
        raise UsageError(f"{path}: not an ONNX file: it holds no operators")
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise UsageError(
            f"{path}: its weights lie in a file of their own, which is missing or damaged: {_first_line(error)}. "
            f"Put it beside the model"
        ) from error
    return proto


def _refuse_what_is_quantized(path: Path, proto: ModelProto) -> None:
    found = [n.op_type for n in _all_nodes(proto.graph) if n.op_type in QUANTIZED or n.op_type.startswith("QLinear")]
    if found:
        raise UsageError(
            f"{path}: already quantized: it holds {len(found)} operators such as {found[0]}; "
            f"give the float file that it was made from (`compress lint` says whether this one is well made)"
        )
    foreign = sorted({n.domain for n in _all_nodes(proto.graph) if n.domain not in OWN_DOMAINS})
    functions = {function.domain for function in proto.functions}
    if unknown := [domain for domain in foreign if domain not in functions]:
        raise UsageError(
            f"{path}: holds operators of the domain {unknown[0]!r}, which ONNX Runtime does not have; "
            f"export the model without them"
        )


def _forget_shapes(proto: ModelProto) -> None:
    """What a file says of shapes inside of the graph is inferred anew: it is often wrong, and never needed."""
    del proto.graph.value_info[:]


def _make_weights_constant(proto: ModelProto) -> None:
    """Weights that are also listed as inputs (as in IR version 3) could be overridden by a caller: they are not."""
    constants = {item.name for item in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, IR_VERSION)


def _current(proto: ModelProto) -> ModelProto:
    """The same graph in an operator set that has scales per channel."""
    version = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 1)
    if version >= DEFAULT_OPSET:
        return proto
    try:
        converted: ModelProto = onnx.version_converter.convert_version(proto, DEFAULT_OPSET)
    except Exception as error:
        raise StageError(
            f"opset {version} is too old, and ONNX cannot convert it to {DEFAULT_OPSET}: {_first_line(error)}; "
            f"export the model again with opset {DEFAULT_OPSET}"
        ) from error
    return converted


def folded(proto: ModelProto) -> ModelProto:
    """The graph after ONNX Runtime's basic optimizations: constants computed, batch norms folded, identities gone.

    Raises:
        StageError: ONNX Runtime does not load it.
    """
    import onnxruntime

    for node in _all_nodes(proto.graph):
        node.doc_string = ""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "folded.onnx"
        onnx.save(proto, source, save_as_external_data=proto.ByteSize() > LARGEST)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if proto.ByteSize() > LARGEST // 2:
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        try:
            onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            said = LOADING.sub("", _first_line(error))  # which names a copy in a folder that is gone by then
            raise StageError(f"ONNX Runtime does not load the graph: {said}") from error
        return onnx.load(target)


def tidy(proto: ModelProto) -> None:
    """Names for all operators, canonical forms of some, nothing that tells where the file was made."""
    graph = proto.graph
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    del graph.value_info[:]
    graph.value_info.extend(inferred.graph.value_info)
    _sums_of_two(graph)
    _spell_out_hard_swish(graph)
    _pool_whole_images(graph)
    pool_globally(graph)
    simplify(graph)
    del graph.value_info[:]
    _forget_unused(proto)
    taken: set[str] = set()
    for node in graph.node:
        node.name = _free(node.name or f"{node.op_type}_{next(filter(None, node.output), '')}", taken)
    for node in _all_nodes(graph):
        node.doc_string = ""
        del node.metadata_props[:]
    proto.producer_name, proto.producer_version, proto.doc_string, graph.doc_string = PRODUCER, "", "", ""
    del proto.metadata_props[:]
    domains = {node.domain for node in _all_nodes(graph)} | {""}
    kept = [item for item in proto.opset_import if item.domain in domains]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _sums_of_two(graph: GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"
        elif node.op_type == "Sum" and len(node.input) == 1:
            node.CopyFrom(helper.make_node("Identity", list(node.input), list(node.output), node.name))


def _spell_out_hard_swish(graph: GraphProto) -> None:
    """HardSwish is a product with a hard sigmoid, and that has an int8 form."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "HardSwish":
            nodes.append(node)
            continue
        gate = f"{node.output[0]}_gate"
        nodes += [
            helper.make_node("HardSigmoid", list(node.input), [gate], f"{node.name}_gate", alpha=1 / 6, beta=0.5),
            helper.make_node("Mul", [node.input[0], gate], list(node.output), node.name),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _pool_whole_images(graph: GraphProto) -> None:
    """An average over a window that covers the image is a global one."""
    known = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.value_info)}
    for node in graph.node:
        window = attribute(node, "kernel_shape", [])
        image = [axis.dim_value for axis in known.get(node.input[0], ())][2:] if node.op_type == "AveragePool" else []
        whole = len(image) == 2 and all(0 < size <= side for size, side in zip(image, window, strict=True))
        clipped = attribute(node, "ceil_mode", 0) and list(window) == list(attribute(node, "strides", []))
        if whole and (list(image) == list(window) or clipped) and not any(attribute(node, "pads", [])):
            pooled = helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), node.name)
            node.CopyFrom(pooled)


def _forget_unused(proto: ModelProto) -> None:
    """Constants that operators give become arrays; what nothing reads goes."""
    graph = Graph(proto.graph)
    for node in [node for node in graph.nodes if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        graph.arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        if node.output[0] not in graph.outputs:
            graph.nodes.remove(node)
        else:
            del graph.arrays[node.output[0]]
    graph.write()


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_again"
    taken.add(name)
    return name


def _all_nodes(graph: GraphProto) -> Iterable[NodeProto]:
    for node in graph.node:
        yield node
        for inner in nested(node):
            yield from _all_nodes(inner)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
