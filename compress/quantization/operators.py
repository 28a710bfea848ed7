"""Neutral operators: one table of how each takes part in int8, and the graph that they form.

A reader (`aten` for torch, `onnx_graph` for ONNX) turns a graph into `Operator`s; `placement` decides.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class Role(enum.Enum):
    """How an operator takes part in int8."""

    WEIGHTED = "has weights; reads int8, writes int8"
    WEIGHTED_OR_FLOAT_OUT = "has weights; reads int8, writes int8 where an int8 operator reads it, else float"
    COMBINES = "reads several tensors and writes one, each with its own scale, between int8 operators only"
    JOINS = "like COMBINES, but all its tensors share one scale"
    MAPS = "reads one tensor and writes one, each with its own scale, between int8 operators only"
    CURVES = "like MAPS, but float behind a linear layer, whose float output costs nothing"
    MOVES = "moves or picks values: same scale in and out, so any type will do"
    RECTIFIES = "folds into the quantization of its output"
    FLOAT = "stays float"


ROLES: dict[str, Role] = {
    "conv": Role.WEIGHTED,
    "conv_transpose": Role.WEIGHTED,
    "linear": Role.WEIGHTED_OR_FLOAT_OUT,
    "add": Role.COMBINES,
    "mul": Role.COMBINES,
    "concat": Role.JOINS,
    "average_pool": Role.MAPS,
    "global_average_pool": Role.MAPS,
    "sigmoid": Role.CURVES,
    "hard_sigmoid": Role.CURVES,
    "leaky_relu": Role.CURVES,
    "max_pool": Role.MOVES,
    "pad": Role.MOVES,
    "reshape": Role.MOVES,
    "resize_nearest": Role.MOVES,
    "slice": Role.MOVES,
    "transpose": Role.MOVES,
    "relu": Role.RECTIFIES,
    "clip": Role.RECTIFIES,
    "gelu": Role.FLOAT,
    "layer_norm": Role.FLOAT,
    "matmul": Role.FLOAT,
    "softmax": Role.FLOAT,
    "other": Role.FLOAT,
}
"""Neutral operator -> role. SiLU and hard-swish are read as products with a `sigmoid` or `hard_sigmoid`.

What is float here has no int8 kernel in ONNX Runtime's CPU provider, or one that does not pay. Measured on one core
with AVX-512 VNNI: softmax takes 331 us in int8 and 49 in float (3 heads, 197 tokens); the two products of attention
(`matmul`) with their quantizations 431 us in int8 and 425 in float there, 552 and 445 with 12 heads and 128 tokens.
A transposed convolution has no int8 kernel either, and is emitted as a convolution and a rearrangement, which have:
64 to 32 channels, 32x32, kernel 2 and stride 2: 79 us, 264 in float between int8 neighbours; kernel 4: 261 and 1460.
With groups or dilation it is `other`.
"""

WRITES: dict[str, tuple[float, float]] = {"hard_sigmoid": (0.0, 1.0), "sigmoid": (0.0, 1.0)}
"""The least and greatest value that an operator can write, which its output's range does not leave."""

WEIGHTED = frozenset({Role.WEIGHTED, Role.WEIGHTED_OR_FLOAT_OUT})
BETWEEN = frozenset({Role.COMBINES, Role.JOINS, Role.MAPS, Role.CURVES})

Bounds = tuple[float, float] | None


@dataclass(frozen=True)
class Operator:
    """One operator: the tensor that it writes, what it is, the activations that it reads (weights are not listed).

    `bounds` are the least and greatest value that a `relu` or `clip` lets through; `ignored` keeps it in float.
    """

    output: str
    kind: str
    inputs: tuple[str, ...]
    bounds: Bounds = None
    ignored: bool = False

    @property
    def role(self) -> Role:
        """Its role, float if it is to be ignored (moving values and rectifying do no harm)."""
        role = ROLES[self.kind]
        return role if not self.ignored or role in (Role.MOVES, Role.RECTIFIES) else Role.FLOAT


class OperatorGraph:
    """Operators by what they write and who reads it."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = operators
        self.by_output: Mapping[str, Operator] = {operator.output: operator for operator in operators}
        self.readers: dict[str, list[Operator]] = defaultdict(list)
        for operator in operators:
            for tensor in operator.inputs:
                self.readers[tensor].append(operator)
        inputs = dict.fromkeys(t for o in operators for t in o.inputs if t not in self.by_output)
        self.tensors = [*inputs, *(operator.output for operator in operators)]

    def role(self, tensor: str) -> Role:
        """The role of what writes a tensor; graph inputs are float."""
        return self.by_output[tensor].role if tensor in self.by_output else Role.FLOAT

    def root(self, tensor: str) -> str:
        """Where a tensor's values come from, behind operators that only move them."""
        while self.role(tensor) is Role.MOVES:
            tensor = self.by_output[tensor].inputs[0]
        return tensor

    def written(self, output: str) -> str:
        """The tensor to quantize for what an operator writes: behind a relu or clip that alone reads it."""
        readers = self.readers[output]
        while len(readers) == 1 and readers[0].role is Role.RECTIFIES:
            output = readers[0].output
            readers = self.readers[output]
        return output

    def writer(self, tensor: str) -> str:
        """The inverse of `written`: the operator before folded relus and clips."""
        while self.role(tensor) is Role.RECTIFIES and len(self.readers[self.by_output[tensor].inputs[0]]) == 1:
            tensor = self.by_output[tensor].inputs[0]
        return tensor

    def branch(self, add: Operator) -> str | None:
        """What a sum reads from the last layer with weights that writes for it alone."""
        written = {name for name in add.inputs if self.role(name) in WEIGHTED and len(self.readers[name]) == 1}
        return max(written, key=self.tensors.index, default=None)

    def follows_linear(self, operator: Operator) -> bool:
        """Whether a linear layer writes what an operator reads."""
        return any(self.role(self.writer(self.root(name))) is Role.WEIGHTED_OR_FLOAT_OUT for name in operator.inputs)

    def readers_towards(self, tensor: str, integer: Iterable[str]) -> set[str]:
        """The direct readers of a tensor through which, behind moves alone, an int8 operator is reached."""
        chosen = set(integer)
        return {o.output for o in self.readers[tensor] if self._reaches(o, chosen, frozenset({Role.MOVES}))}

    def feeds_integer(self, tensor: str, integer: set[str]) -> bool:
        """Whether an int8 operator reads the tensor, behind moves, relus and clips."""
        through = frozenset({Role.MOVES, Role.RECTIFIES})
        return any(self._reaches(operator, integer, through) for operator in self.readers[tensor])

    def _reaches(self, operator: Operator, integer: set[str], through: frozenset[Role]) -> bool:
        pending, seen = [operator], set()
        while pending:
            operator = pending.pop()
            if operator.output in integer:
                return True
            if operator.role in through and operator.output not in seen:
                seen.add(operator.output)
                pending += self.readers[operator.output]
        return False

    def bounds(self, tensor: str) -> Bounds:
        """What the relus and clips that write a tensor leave, or what its operator can write; None if all."""
        bounds = None
        while self.role(tensor) is Role.RECTIFIES:
            operator = self.by_output[tensor]
            low, high = operator.bounds or (float("-inf"), float("inf"))
            bounds = (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))
            tensor = operator.inputs[0]
        if bounds is None and tensor in self.by_output:
            return WRITES.get(self.by_output[tensor].kind)
        return bounds
