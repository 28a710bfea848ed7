from __future__ import annotations

import numpy as np
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from compress.exporting.graph import Graph, attribute, captured, names, reads


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


def holding() -> Graph:
    """An If of which one branch reads `r` and the constant `k`, in an If of its own; the other has its own `r`."""

    def branch(nodes: list[NodeProto], output: str) -> GraphProto:
        return helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1])])

    own = branch([helper.make_node("Neg", ["x"], ["r"]), helper.make_node("Add", ["r", "r"], ["o"])], "o")
    deep = branch([helper.make_node("Add", ["r", "k"], ["s"])], "s")
    inner = helper.make_node("If", ["on"], ["i"], "inner", then_branch=deep, else_branch=own)
    nodes = [
        helper.make_node("If", ["on"], ["y"], "outer", then_branch=branch([inner], "i"), else_branch=own),
        helper.make_node("Relu", ["x"], ["r"], "relu"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    constants = [numpy_helper.from_array(np.ones(1, np.float32), "k"), numpy_helper.from_array(np.array(True), "on")]
    return Graph(helper.make_graph(nodes, "g", values[:1], values[1:], constants))


def test_what_graphs_within_an_operator_read() -> None:
    outer, relu = holding().nodes
    assert captured(outer) == ["x", "on", "r", "k"]
    assert reads(outer) == ["on", "x", "on", "r", "k"]
    assert names(outer) == {"on", "y", "i", "s", "r", "k", "x", "o"}
    assert (captured(relu), reads(relu)) == ([], ["x"])
    assert [item.name for item in holding().readers()["r"]] == ["outer"]


def test_what_only_a_graph_within_reads_is_kept_and_computed_before() -> None:
    graph = holding()
    graph.write()
    assert [node.name for node in graph.proto.node] == ["relu", "outer"]
    assert {item.name for item in graph.proto.initializer} == {"k", "on"}


def test_renaming_reaches_inner_graphs_but_not_what_they_define() -> None:
    graph = holding()
    graph.rename_reads("r", "new")
    assert captured(graph.nodes[0]) == ["x", "on", "new", "k"]
    (own,) = [item.g for item in graph.nodes[0].attribute if item.name == "else_branch"]
    assert [(list(node.input), list(node.output)) for node in own.node] == [(["x"], ["r"]), (["r", "r"], ["o"])]
