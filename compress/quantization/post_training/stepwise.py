"""A graph computed piece by piece: each operator once for each batch, with the weights that it has by then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from compress.exporting.graph import Graph, reads
from compress.quantization.observe import Feeds, session

Array = NDArray[Any]


class Stepwise:
    """The tensors of `wanted`, asked for in that order; `arrays` may change before what reads them is computed.

    Between two of them only those tensors are kept that later operators read. A DequantizeLinear is computed wherever
    it is read, so that integers are kept and not floats.
    """

    def __init__(self, proto: ModelProto, feeds: Sequence[Feeds], wanted: Sequence[str], threads: int = 1) -> None:
        self.proto, self.wanted, self.threads = proto, list(wanted), threads
        self.graph = Graph(proto.graph)
        self.arrays = self.graph.arrays
        self.nodes = self.graph.sorted_nodes()
        self.writers = self.graph.writers()
        self.live: list[dict[str, Array]] = [dict(feed) for feed in feeds]
        self.done: set[int] = set()
        self.declared = {value.name: value for value in proto.graph.input}

    def __call__(self, name: str) -> Iterator[Array]:
        """A tensor's values for each batch. Take all of them before the next is asked for."""
        assert self.wanted and name == self.wanted[0], "tensors are computed in the order in which they were declared"
        self.wanted.pop(0)
        needed = self._needed([name])
        self.done.update(id(node) for node in needed if not _is_free(node))
        later = {tensor for node in self._needed(self.wanted) for tensor in reads(node)} | set(self.wanted)
        kept = {tensor for tensor in later if tensor not in self.writers or not _is_free(self.writers[tensor])}
        written = [tensor for node in needed for tensor in node.output if tensor in kept]
        outputs = list(dict.fromkeys([*written, *([name] if name in self.writers else [])]))
        fed = [tensor for tensor in self._sources(needed) if tensor not in self.arrays]
        run = session(self._part(needed, fed, outputs), self.threads) if needed else None
        for live in self.live:
            found = {} if run is None else dict(zip(outputs, run.run(outputs, _some(live, fed)), strict=True))
            values = found[name] if name in found else live[name]
            live.update(found)
            for tensor in live.keys() - kept:
                del live[tensor]
            yield values

    def _needed(self, names: Sequence[str]) -> list[NodeProto]:
        """The operators that are not computed yet and that tensors take, in order."""
        found: set[int] = set()
        pending = [self.writers[name] for name in names if name in self.writers]
        while pending:
            node = pending.pop()
            if id(node) in found or id(node) in self.done:
                continue
            found.add(id(node))
            pending += [self.writers[name] for name in reads(node) if name in self.writers]
        return [node for node in self.nodes if id(node) in found]

    def _sources(self, nodes: Sequence[NodeProto]) -> list[str]:
        """What operators read and none of them writes."""
        own = {name for node in nodes for name in node.output}
        return list(dict.fromkeys(name for node in nodes for name in reads(node) if name not in own))

    def _part(self, nodes: Sequence[NodeProto], fed: Sequence[str], outputs: Sequence[str]) -> ModelProto:
        example = self.live[0]
        inputs = [
            self.declared.get(name)
            or helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(example[name].dtype), [None] * example[name].ndim
            )
            for name in fed
        ]
        constants = [
            numpy_helper.from_array(self.arrays[name], name) for name in self._sources(nodes) if name in self.arrays
        ]
        values = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "part", inputs, values, constants)
        part = helper.make_model(graph, opset_imports=self.proto.opset_import, functions=self.proto.functions)
        part.ir_version = self.proto.ir_version
        return part


def _is_free(node: NodeProto) -> bool:
    return node.op_type == "DequantizeLinear"


def _some(arrays: Feeds, names: Sequence[str]) -> Feeds:
    return {name: arrays[name] for name in names}
