"""How much of a file really runs in int8: counted in the graph that ONNX Runtime makes of it."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto

INTEGER = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QGemm",
        "QLinearAdd",
        "QLinearConv",
        "QLinearMatMul",
        "QLinearMul",
    }
)
"""Operators that compute in int8, of the kinds that are counted."""

FLOAT = {
    "Add": "add",
    "Conv": "convolution",
    "ConvTranspose": "transposed convolution",
    "FusedConv": "convolution",
    "FusedGemm": "linear layer",
    "FusedMatMul": "matrix product",
    "Gemm": "linear layer",
    "MatMul": "matrix product",
    "Mul": "multiplication",
}
"""Operators that compute in float -> what they are. Sums and products count if both sides are activations."""


@dataclass(frozen=True)
class Int8Share:
    """`integer` of `total` convolutions, linear layers, matrix products, sums and products; what is left, and why."""

    integer: int
    total: int
    not_int8: tuple[dict[str, str], ...]

    @property
    def share(self) -> float:
        """In [0, 1]; 1 if there is nothing to count."""
        return self.integer / self.total if self.total else 1.0


def int8_share(model: Path, *, signed: bool = False) -> Int8Share:
    """Count the operators of the graph that ONNX Runtime's CPU provider optimizes a file into.

    `signed` has it treat int8 activations as it does on Arm, whatever this machine is.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        _optimize(model, optimized, signed)
        graph = onnx.load(optimized).graph
    constants = {item.name for item in graph.initializer}
    writers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node.op_type)
    integer, left = 0, []
    for node in graph.node:
        if node.op_type in INTEGER:
            integer += 1
        elif _counts(node, constants, writers):
            left.append(
                {"name": node.name, "operator": node.op_type, "reason": _reason(node, constants, writers, readers)}
            )
    return Int8Share(integer, integer + len(left), tuple(left))


def _optimize(model: Path, optimized: Path, signed: bool) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimized)
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if signed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _counts(node: NodeProto, constants: set[str], writers: dict[str, NodeProto]) -> bool:
    if node.op_type not in FLOAT:
        return False
    if node.op_type not in ("Add", "Mul"):
        return True
    return all(name not in constants and not _is_constant(writers.get(name)) for name in node.input)


def _is_constant(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "Constant"


def _reason(node: NodeProto, constants: set[str], writers: dict[str, NodeProto], readers: dict[str, list[str]]) -> str:
    """Why an operator runs in float."""
    if node.op_type == "ConvTranspose":
        return "ONNX Runtime has no int8 kernel for it"
    quantized = [_from_integers(name, writers) for name in node.input[:2]]
    if all(quantized) and not _is_quantized_after(node, readers):
        return "its inputs are quantized, but only float operators read its output"
    if all(quantized):
        return "its inputs are quantized, but the runtime did not fuse it"
    if node.op_type in ("MatMul", "FusedMatMul") and not any(quantized) and not constants.intersection(node.input):
        return "both sides are float activations"
    return "kept in float: its inputs or its output are not worth quantizing here"


def _is_quantized_after(node: NodeProto, readers: dict[str, list[str]]) -> bool:
    return all(operator == "QuantizeLinear" for name in node.output for operator in readers[name])


def _from_integers(name: str, writers: dict[str, NodeProto]) -> bool:
    node: Any = writers.get(name)
    while node is not None and node.op_type in ("Transpose", "Reshape"):
        node = writers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"
