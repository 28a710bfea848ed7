"""A small network of tokens with what language models have, as a float graph."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper, numpy_helper

TOKENS = 90


def token_arrays(width: int) -> dict[str, np.ndarray]:
    """An embedding (tokens, width), a linear layer (outputs, inputs) with its bias, a layer of few weights."""
    generator = np.random.default_rng(0)
    sizes = {"embedding": (TOKENS, width), "layer": (width, width), "bias": (width,), "narrow": (TOKENS, 3)}
    return {name: generator.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def token_network(width: int = 80, *, turned: bool = True) -> ModelProto:
    """The embedding, the layer (by outputs where `turned`), the embedding again as the head, the small layer."""
    arrays = token_arrays(width)
    arrays["layer"] = arrays["layer"] if turned else arrays["layer"].T
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["x"], "embed"),
        helper.make_node("Gemm", ["x", "layer", "bias"], ["h"], "layer", transB=int(turned)),
        helper.make_node("Transpose", ["embedding"], ["head"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["h", "head"], ["logits"], "head"),
        helper.make_node("MatMul", ["logits", "narrow"], ["y"], "narrow"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("tokens", 7, ["length"])],
        [helper.make_tensor_value_info("y", 1, ["length", 3])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
