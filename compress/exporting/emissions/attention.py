"""Attention of float queries, keys and values as the one `Attention` operator of opset 23.

ONNX Runtime recognizes no attention in what torch exports. Measured there on one core with AVX-512, as exported and as
one operator, us: 12 heads of 32, 128 tokens, with a mask 559 and 394; 3 heads of 64, 197 tokens 452 and 355; of batches
of 8 6811 and 5692, 5330 and 4954. `MultiHeadAttention` and `QAttention` of ONNX Runtime lie between these. The numbers
differ by rounding of float32 alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto, helper

from compress.exporting.graph import Graph, attribute

OPSET = 23
UNCHANGED = frozenset(
    {"Add", "And", "ArgMax", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Cos"}
    | {"CumSum", "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Gather", "GatherElements"}
    | {"GatherND", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity"}
    | {"IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "MatMul", "Max", "MaxPool", "Min", "Mul"}
    | {"Neg", "Not", "Or", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceMax", "ReduceMean"}
    | {"ReduceMin", "ReduceSum", "Relu", "Reshape", "ScatterND", "Shape", "Sigmoid", "Sin", "Slice", "Softmax"}
    | {"Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"}
)
"""Operators that mean the same from opset 18 to 23: later versions only added types, or attributes with defaults."""
HEADS_FIRST = [0, 2, 1, 3]
FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class _Side:
    """Queries, keys or values, (batch, tokens, heads * width), and the factor that they are multiplied with."""

    tensor: str
    heads: int
    factor: float


def fuse_attention(proto: ModelProto) -> None:
    """Replace attention by the operator, in place, where every operator of the graph means the same at opset 23."""
    standard = next(item for item in proto.opset_import if item.domain in ("", "ai.onnx"))
    if standard.version < 18 or any(n.op_type not in UNCHANGED for n in proto.graph.node if not n.domain):
        return
    graph = Graph(proto.graph)
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    known = [*inferred.input, *inferred.value_info]
    found = _Fusion(graph, {value.name: value for value in known}).run()
    if found:
        standard.version = max(standard.version, OPSET)
        proto.ir_version = max(proto.ir_version, 11)
        graph.write()


class _Fusion:
    """One pass over a graph."""

    def __init__(self, graph: Graph, known: dict[str, onnx.ValueInfoProto]) -> None:
        self.graph = graph
        self.known = known
        self.writers, self.readers = graph.writers(), graph.readers()

    def run(self) -> int:
        """Fuse what there is; how many."""
        found = 0
        for softmax in [node for node in self.graph.nodes if node.op_type == "Softmax"]:
            if attribute(softmax, "axis", -1) in (-1, 3):
                found += self._fuse(softmax)
        return found

    def _fuse(self, softmax: NodeProto) -> bool:
        last = self._only_reader(softmax.output[0], "MatMul")
        if last is None or last.input[0] != softmax.output[0]:
            return False
        merged = self._merged(last)
        scores, mask, factor = self._scores(softmax.input[0])
        if merged is None or scores is None:
            return False
        sides = [
            self._side(name, swapped) for name, swapped in zip((*scores.input, last.input[1]), (0, 1, 0), strict=True)
        ]
        if any(side is None for side in sides):
            return False
        query, key, value = (side for side in sides if side is not None)
        if value.factor != 1 or not query.heads == key.heads == value.heads:
            return False
        self._replace(merged, (query, key, value), mask, query.factor * key.factor * factor)
        return True

    def _scores(self, name: str) -> tuple[NodeProto | None, str, float]:
        """The product of queries and keys before masking and scaling, the mask ("" for none), the factor."""
        mask, factor = "", 1.0
        node = self.writers.get(name)
        if node is not None and node.op_type == "Add":
            product = next((x for x in node.input if self._kind(x) in ("MatMul", "Mul", "Div")), None)
            mask = next((x for x in node.input if x != product), "")
            if product is None or not self._is_mask(mask) or self._only_reader(product, "Add") is None:
                return None, "", factor
            node = self.writers[product]
        if node is not None and node.op_type in ("Mul", "Div"):
            tensor, number = self._scaled(node)
            factor = number
            node = self.writers.get(tensor)
        if node is None or node.op_type != "MatMul" or len(self.readers[node.output[0]]) != 1:
            return None, "", factor
        return node, mask, factor

    def _is_mask(self, name: str) -> bool:
        """Whether it is a float tensor of (batch or 1, heads or 1, tokens, tokens)."""
        if name in self.graph.arrays:
            return self.graph.arrays[name].ndim == 4
        return self._rank(name) == 4 and self.known[name].type.tensor_type.elem_type == FLOAT

    def _scaled(self, node: NodeProto) -> tuple[str, float]:
        """The tensor that a Mul or Div scales, and the factor; ("", 1) where that is no constant."""
        for i, name in enumerate(node.input):
            array = self.graph.arrays.get(name)
            if array is not None and array.size == 1 and (node.op_type == "Mul" or i == 1):
                number = float(array.reshape(()))
                return node.input[1 - i], number if node.op_type == "Mul" else 1 / number
        return "", 1.0

    def _side(self, name: str, swapped: int) -> _Side | None:
        """Where one side of a product comes from: split into heads, perhaps scaled, keys with their axes swapped."""
        order, factor = [0, 1, 2, 3], 1.0
        node = self.writers.get(name)
        while node is not None and node.op_type in ("Transpose", "Mul", "Div"):
            if node.op_type == "Transpose":
                perm = list(attribute(node, "perm", []))
                if len(perm) != 4:
                    return None
                order = [perm[i] for i in order]
                name = node.input[0]
            else:
                name, number = self._scaled(node)
                factor *= number
            node = self.writers.get(name)
        if node is None or node.op_type != "Reshape" or order != ([0, 2, 3, 1] if swapped else HEADS_FIRST):
            return None
        heads = self._heads(node)
        return None if heads is None else _Side(node.input[0], heads, factor)

    def _heads(self, reshape: NodeProto) -> int | None:
        """How many heads a Reshape makes of the last axis of (batch, tokens, width); None if it does anything else."""
        source, target = (self._shape(name) for name in (reshape.input[0], reshape.output[0]))
        if source is None or target is None or len(source) != 3 or len(target) != 4:
            return None
        width, heads, size = source[2], target[2], target[3]
        if not isinstance(width, int) or not isinstance(size, int) or size < 1 or width % size:
            return None
        return width // size if heads == width // size or not isinstance(heads, int) else None

    def _merged(self, last: NodeProto) -> tuple[NodeProto | None, NodeProto] | None:
        """The quantization, if there is one, and the transposition that lays heads side by side again."""
        quantize = self._only_reader(last.output[0], "QuantizeLinear")
        transpose = self._only_reader(last.output[0] if quantize is None else quantize.output[0], "Transpose")
        if transpose is None or list(attribute(transpose, "perm", [])) != HEADS_FIRST:
            return None
        behind = self.readers[transpose.output[0]]
        if transpose.output[0] in self.graph.outputs or not behind or any(n.op_type != "Reshape" for n in behind):
            return None
        return quantize, transpose

    def _replace(
        self, merged: tuple[NodeProto | None, NodeProto], sides: tuple[_Side, ...], mask: str, scale: float
    ) -> None:
        """Heads side by side lie in memory as (batch, tokens, width) does: a Reshape to that does nothing any more."""
        quantize, transpose = merged
        output = transpose.output[0] if quantize is None else f"{transpose.output[0]}_float"
        inputs = [side.tensor for side in sides] + ([mask] if mask else [])
        heads = sides[0].heads
        name = f"{transpose.name}_attention"
        node = helper.make_node("Attention", inputs, [output], name, q_num_heads=heads, kv_num_heads=heads, scale=scale)
        self.graph.nodes = [item for item in self.graph.nodes if item is not transpose]
        self.graph.nodes.append(node)
        if quantize is not None:
            quantize.input[0], quantize.output[0] = output, transpose.output[0]
        rows, width = self._rows(sides[0].tensor, mask), (self._shape(sides[2].tensor) or [None])[-1]
        for reshape in self.readers[transpose.output[0]]:
            shape = self._shape(reshape.output[0])
            if rows is not None and shape is not None and shape[1:] == [rows, width]:
                self.graph.rename_reads(reshape.output[0], transpose.output[0])

    def _rows(self, queries: str, mask: str) -> int | str | None:
        """How many queries a text has: a number, or the name that a mask of (batch, heads, queries, keys) gives it."""
        rows = (self._shape(queries) or [None, None])[1]
        if not isinstance(rows, int) and mask:
            rows = (self._shape(mask) or [None] * 4)[2]
        return rows

    def _only_reader(self, name: str, kind: str) -> NodeProto | None:
        behind = self.readers[name]
        return behind[0] if len(behind) == 1 and behind[0].op_type == kind and name not in self.graph.outputs else None

    def _kind(self, name: str) -> str:
        return self.writers[name].op_type if name in self.writers else ""

    def _rank(self, name: str) -> int | None:
        shape = self._shape(name)
        return None if shape is None else len(shape)

    def _shape(self, name: str) -> list[int | str | None] | None:
        """Sizes, names of free axes, None for those of which nothing is known; None if the rank is not known."""
        value = self.known.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        axes = value.type.tensor_type.shape.dim
        return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in axes]
