from __future__ import annotations

import pytest

from compress.quantization.operators import ROLES, Operator, OperatorGraph, Role
from tests.quantization.placed import conv, relu


@pytest.mark.parametrize("kind", ROLES)
def test_what_is_ignored_is_float_unless_it_only_moves_or_rectifies(kind: str) -> None:
    harmless = ROLES[kind] in (Role.MOVES, Role.RECTIFIES)
    assert Operator("y", kind, ("x",), ignored=True).role is (ROLES[kind] if harmless else Role.FLOAT)


def test_values_come_from_behind_moves() -> None:
    graph = OperatorGraph([conv("a", "x"), Operator("p", "max_pool", ("a",)), Operator("q", "reshape", ("p",))])
    assert [graph.root(tensor) for tensor in ("q", "p", "a", "x")] == ["a", "a", "a", "x"]
    assert graph.tensors == ["x", "a", "p", "q"]


def test_a_relu_that_alone_reads_its_operator_is_what_that_writes_and_back() -> None:
    graph = OperatorGraph([conv("a", "x"), relu("r", "a"), conv("b", "r"), relu("s", "b"), conv("c", "b")])
    assert graph.written("a") == "r" and graph.writer("r") == "a"
    assert graph.written("b") == "b" and graph.writer("s") == "s"  # another operator reads the convolution too


def test_bounds_are_what_all_rectifiers_leave_or_what_the_operator_can_write() -> None:
    clip = Operator("k", "clip", ("r",), (-1.0, 6.0))
    graph = OperatorGraph([conv("a", "x"), relu("r", "a"), clip, Operator("g", "sigmoid", ("a",))])
    assert [graph.bounds(tensor) for tensor in ("x", "a", "r", "k", "g")] == [
        None, None, (0.0, float("inf")), (0.0, 6.0), (0.0, 1.0),
    ]  # fmt: skip


def test_an_int8_operator_is_fed_through_moves_and_rectifiers_and_a_reader_is_chosen_behind_moves_alone() -> None:
    graph = OperatorGraph([Operator("f", "other", ("x",)), relu("r", "f"), Operator("m", "pad", ("f",)), conv("a", "r"),
                           conv("b", "m")])  # fmt: skip
    assert graph.feeds_integer("f", {"a"}) and not graph.feeds_integer("f", {"f"})
    assert graph.readers_towards("f", {"a", "b"}) == {"m"}
