from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.exporting.graph import Graph, attribute


def small() -> Graph:
    nodes = [
        helper.make_node("Add", ["b", "c"], ["y"], "add"),
        helper.make_node("Relu", ["x"], ["b"], "relu"),
        helper.make_node("Relu", ["x"], ["unused"], "dead"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    constants = [numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("c", "spare")]
    return Graph(helper.make_graph(nodes, "g", values[:1], values[1:], constants))


def test_writing_sorts_and_drops_what_nothing_reads() -> None:
    graph = small()
    graph.write()
    assert [node.name for node in graph.proto.node] == ["relu", "add"]
    assert [item.name for item in graph.proto.initializer] == ["c"]


def test_knows_who_writes_and_who_reads() -> None:
    graph = small()
    assert graph.writers()["b"].name == "relu"
    assert [node.name for node in graph.readers()["x"]] == ["relu", "dead"]
    graph.rename_reads("x", "z", [graph.nodes[1]])
    assert [node.name for node in graph.readers()["x"]] == ["dead"]


def test_one_name_holds_one_array() -> None:
    graph = small()
    graph.add_array("c", np.ones(1, np.float32))
    with pytest.raises(AssertionError):
        graph.add_array("c", np.zeros(1, np.float32))


def test_attributes_have_defaults() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    assert attribute(node, "group", 1) == 4
    assert attribute(node, "strides", None) is None
