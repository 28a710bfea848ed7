"""Small float ONNX graphs, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = Sequence[int | str | None]


def floats(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Normal numbers, float32."""
    return (np.random.default_rng(seed).normal(0, scale, shape)).astype(np.float32)


def node(kind: str, reads: str, writes: str, name: str | None = None, **attributes: Any) -> NodeProto:
    """An operator that reads and writes tensors named in strings such as `x w b`; `-` is an absent input."""
    inputs = ["" if item == "-" else item for item in reads.split()]
    return helper.make_node(
        kind, inputs, writes.split(), writes.split(maxsplit=1)[0] if name is None else name, **attributes
    )


def graph(
    nodes: Sequence[NodeProto],
    arrays: Mapping[str, Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape | None],
    *,
    opset: int = 18,
    ir_version: int = 10,
    integers: Sequence[str] = (),
) -> ModelProto:
    """A model; `integers` names the inputs and outputs that hold int64."""

    def value(name: str, shape: Shape | None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT64 if name in integers else TensorProto.FLOAT, shape)

    proto = helper.make_graph(
        nodes,
        "graph",
        [value(*item) for item in inputs.items()],
        [value(*item) for item in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    domains = {"": opset} | {item.domain: 1 for item in nodes if item.domain}
    imports = [helper.make_opsetid(*item) for item in domains.items()]
    return helper.make_model(proto, opset_imports=imports, ir_version=ir_version)


def run(model: ModelProto, *tensors: str, **feeds: Array) -> list[Array]:
    """The outputs, or some inner tensors, by ONNX Runtime without its optimizations."""
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    for name in tensors:
        if name not in known:
            watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(found) for found in session.run(list(tensors) or None, feeds)]


def two_convolutions(*, relu: bool = True) -> ModelProto:
    """3x8x8 -> convolution, relu -> strided convolution -> mean -> linear: 5 classes."""
    arrays = {
        "w1": floats(8, 3, 3, 3, scale=0.3),
        "b1": floats(8, seed=1, scale=0.2),
        "w2": floats(6, 8, 3, 3, seed=2, scale=0.2),
        "b2": floats(6, seed=3, scale=0.2),
        "w3": floats(5, 6, seed=4, scale=0.5),
        "b3": floats(5, seed=5, scale=0.2),
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1") if relu else node("Identity", "c1", "r1"),
        node("Conv", "r1 w2 b2", "c2", strides=[2, 2]),
        node("GlobalAveragePool", "c2", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "y", transB=1),
    ]
    return graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 5]})


def batches_of(name: str, array: Array, size: int = 16) -> list[dict[str, Array]]:
    """An array cut into feeds."""
    return [{name: array[start : start + size]} for start in range(0, len(array), size)]
