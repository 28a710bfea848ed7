"""A small network of tokens with what language models have, as a float graph."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper, numpy_helper

GENERATOR = np.random.default_rng(0)
LAYER, EMBEDDING = (GENERATOR.normal(size=size).astype(np.float32) for size in ((80, 80), (90, 80)))
NARROW, BIAS = GENERATOR.normal(size=(90, 3)).astype(np.float32), GENERATOR.normal(size=80).astype(np.float32)


def token_network(*, turned: bool = True) -> ModelProto:
    """Of tokens: an embedding, a linear layer with a bias, the embedding again as the head, a layer of few weights."""
    arrays = {"embedding": EMBEDDING, "layer": LAYER.T if turned else LAYER, "bias": BIAS, "narrow": NARROW}
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
