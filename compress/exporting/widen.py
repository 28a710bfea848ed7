"""A file of 16 bits in float32, each result rounded to those bits: what hardware with such arithmetic computes.

ONNX Runtime's CPU provider has no kernels for bfloat16 but Cast. Of float16 it has some; between the others it leaves
the rounding out on x86. Kernels of GPUs add in float32 and round what they write, which is what this does.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper

from compress.exporting.element_types import element_types
from compress.exporting.graph import Graph, attribute

NARROW, FLOAT = (TensorProto.FLOAT16, TensorProto.BFLOAT16), TensorProto.FLOAT


def widened(proto: ModelProto) -> ModelProto:
    """The graph with float32 for float16 and bfloat16, and each tensor that was one of them rounded to it."""
    result = ModelProto()
    result.CopyFrom(proto)
    graph = Graph(result.graph)
    types = element_types(proto)
    graph.arrays = {
        name: array.astype(np.float32) if types[name] in NARROW else array for name, array in graph.arrays.items()
    }
    for node in list(graph.nodes):
        if node.op_type == "Cast" and attribute(node, "to") in NARROW:
            node.attribute[0].i = FLOAT
        for i, name in enumerate(node.output):
            if types.get(name) in NARROW:
                node.output[i] = f"{name}_exact"
                graph.nodes += [
                    helper.make_node("Cast", [f"{name}_exact"], [f"{name}_rounded"], f"{name}_round", to=types[name]),
                    helper.make_node("Cast", [f"{name}_rounded"], [name], f"{name}_widen", to=FLOAT),
                ]
    graph.write()
    return result
