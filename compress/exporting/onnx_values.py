"""Some tensors of an ONNX graph, computed from its inputs or from values put in on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from compress.exporting.graph import Array, Graph, reads

COMPUTED, SHAPE = "/computed", "/shape"


@dataclass(frozen=True)
class Coding:
    """How a tensor of a file stands for the floats that are compared.

    8-bit integers by scale and zero point (floats where `dtype` is None); `margin` are the elements at the end of each
    axis that only the file has, all zero.
    """

    scale: float = 1.0
    zero_point: int = 0
    dtype: np.dtype[np.generic] | None = None
    margin: tuple[int, ...] = ()

    def decode(self, array: Array) -> Array:
        """The floats that an array of the file stands for."""
        if any(self.margin):
            array = array[tuple(slice(None, -extra or None) for extra in self.margin)]
        if self.dtype is None:
            return array
        floats: Array = ((array.astype(np.int64) - self.zero_point) * self.scale).astype(np.float32)
        return floats

    def encode(self, array: Array) -> Array:
        """What the file has for those floats."""
        if any(self.margin):
            array = np.pad(array, [(0, extra) for extra in self.margin])
        if self.dtype is None:
            return array
        limits = np.iinfo(self.dtype)  # type: ignore[type-var]
        steps = np.rint(array.astype(np.float64) / self.scale) + self.zero_point
        integers: Array = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return integers


PLAIN = Coding()
"""Floats as they are."""


class OnnxValues:
    """An ONNX graph and what is fed to it. Only what is asked for is computed, on one thread, nothing optimized."""

    def __init__(self, model: ModelProto, feeds: Mapping[str, Array]) -> None:
        self.model, self.feeds = model, dict(feeds)
        self.graph = Graph(model.graph)
        self.nodes = self.graph.sorted_nodes()
        self.writers = self.graph.writers()
        self.inputs = {value.name for value in model.graph.input} - set(self.graph.arrays)
        self.narrow = any(array.dtype == np.float16 for array in self.graph.arrays.values())
        """Whether it computes in float16."""
        self._float16 = _float16_tensors(model) if self.narrow else frozenset()
        self._initializers = {item.name: item for item in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self.writers or name in self.graph.arrays or name in self.inputs

    def __call__(self, names: Sequence[str], given: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Tensors by name. Operators that read a tensor of `given` get that value, whatever the graph computes."""
        given = {
            name: array.astype(np.float16) if name in self._float16 else array for name, array in (given or {}).items()
        }
        known = {**self.graph.arrays, **self.feeds}
        found = {name: np.asarray(known[name]) for name in names if name in known}
        asked = [name for name in names if name not in found]
        if asked:
            found |= self._run(asked, given)
        return {name: found[name] for name in names}

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of tensors, in one pass that keeps none of them."""
        known = {**self.graph.arrays, **self.feeds}
        found = {name: tuple(np.shape(known[name])) for name in names if name in known}
        asked = [name for name in dict.fromkeys(names) if name not in found]
        if asked:
            proto, fed = self._part(asked, {})
            del proto.graph.output[:]
            for name in asked:
                proto.graph.node.append(helper.make_node("Shape", [name], [name + SHAPE]))
                proto.graph.output.append(onnx.ValueInfoProto(name=name + SHAPE))
            for name, shape in zip(asked, self._outputs(proto, fed, {}), strict=True):
                found[name] = tuple(int(size) for size in shape)
        return found

    def _run(self, asked: Sequence[str], given: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(asked, self._outputs(*self._part(asked, given), given), strict=True))

    def _outputs(self, proto: ModelProto, fed: Sequence[str], given: Mapping[str, Array]) -> list[Array]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        arrays = session.run(None, {name: given.get(name, self.feeds.get(name)) for name in fed})
        return [np.asarray(array) for array in arrays]

    def _part(self, asked: Sequence[str], given: Mapping[str, Array]) -> tuple[ModelProto, list[str]]:
        """The graph from `given` and the inputs to `asked`, and the names of what must be fed to it."""
        needed, read = self._needed(asked, given)
        nodes = [_renamed(node, given) for node in self.nodes if id(node) in needed]
        declared = {value.name: value for value in self.model.graph.input}
        fed = [name for name in read if name in given or name in self.feeds]
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(given[name].dtype), None)
            if name in given
            else declared[name]
            for name in fed
        ]
        outputs = [onnx.ValueInfoProto(name=name + COMPUTED if name in given else name) for name in asked]
        arrays = [self._initializers[name] for name in read if name in self._initializers and name not in given]
        graph = helper.make_graph(nodes, "part", inputs, outputs, arrays)
        proto = helper.make_model(graph, opset_imports=self.model.opset_import, functions=self.model.functions)
        proto.ir_version = self.model.ir_version
        return proto, fed

    def _needed(self, asked: Iterable[str], given: Mapping[str, Array]) -> tuple[set[int], list[str]]:
        """The operators (by identity) that `asked` takes, and the tensors that they read, in a fixed order."""
        needed: set[int] = set()
        read: dict[str, None] = {}
        pending = [self.writers[name] for name in asked]
        while pending:
            node = pending.pop()
            if id(node) in needed:
                continue
            needed.add(id(node))
            for name in reads(node):
                read[name] = None
                if name not in given and name in self.writers:
                    pending.append(self.writers[name])
        return needed, list(read)


def _float16_tensors(model: ModelProto) -> frozenset[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return frozenset(
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    )


def _renamed(node: NodeProto, given: Mapping[str, Array]) -> NodeProto:
    """The operator, with other names for those of its outputs that readers get from elsewhere."""
    if not any(name in given for name in node.output):
        return node
    result = NodeProto()
    result.CopyFrom(node)
    result.output[:] = [name + COMPUTED if name in given else name for name in node.output]
    return result
