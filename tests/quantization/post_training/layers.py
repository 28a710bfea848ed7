"""Networks of one layer, of every kind that rows are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto

from tests.quantization.graphs import floats, graph, node


def correlated(count: int, *shape: int) -> np.ndarray:
    """Images that change slowly from channel to channel and pixel to pixel."""
    rng = np.random.default_rng(7)
    few = rng.normal(0, 1, (count, 2)).astype(np.float32)
    mixing = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    noise = rng.normal(0, 0.1, (count, *shape)).astype(np.float32)
    result: np.ndarray = np.tensordot(few, mixing, 1).astype(np.float32) + noise
    return result


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((6, 4, 3, 3), {}),
    "strides and uneven pads": ((6, 4, 3, 3), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "dilations": ((6, 4, 3, 2), {"dilations": [2, 3], "pads": [2, 2, 2, 2]}),
    "groups": ((6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((8, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "same upper": ((6, 4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((6, 4, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "valid": ((6, 4, 3, 3), {"auto_pad": "VALID"}),
    "one axis": ((6, 4, 3), {"pads": [1, 1], "strides": [2]}),
}


def convolution(name: str) -> tuple[ModelProto, np.ndarray]:
    shape, attributes = CONVOLUTIONS[name]
    image = (4, 10, 9) if len(shape) == 4 else (4, 20)
    proto = graph(
        [node("Conv", "x w b", "c", **attributes), node("Relu", "c", "y")],
        {"w": floats(*shape), "b": floats(shape[0], seed=1)},
        {"x": ["batch", *image]},
        {"y": None},
    )
    return proto, correlated(64, *image)


def linear(form: str) -> tuple[ModelProto, np.ndarray]:
    if form == "gemm":
        nodes = [node("Gemm", "x w b", "y", transB=1)]
        proto = graph(nodes, {"w": floats(6, 24), "b": floats(6, seed=1)}, {"x": ["batch", 24]}, {"y": None})
        return proto, correlated(256, 24)
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "y")]
    proto = graph(nodes, {"w": floats(24, 6), "b": floats(6, seed=1)}, {"x": ["batch", 3, 24]}, {"y": None})
    return proto, correlated(128, 3, 24)


CASES = {**dict.fromkeys(CONVOLUTIONS, convolution), **dict.fromkeys(("gemm", "matmul"), linear)}
