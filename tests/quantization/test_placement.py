from __future__ import annotations

from compress.quantization.operators import Operator
from compress.quantization.placement import place
from tests.quantization.placed import conv, names, relu


def test_relu_folds_into_the_convolution_and_both_sides_are_quantized() -> None:
    integer, points = names([conv("a", "x"), relu("b", "a")])
    assert integer == {"a"}
    assert set(points) == {"x", "b"}


def test_relu_does_not_fold_where_something_else_reads_the_convolution() -> None:
    _, points = names([conv("a", "x"), relu("b", "a"), conv("c", "a"), conv("d", "b")])
    assert {"a", "b"} <= set(points)


def test_residual_sum_is_quantized_on_both_inputs_and_behind_its_relu() -> None:
    operators = [conv("a", "x"), conv("b", "a"), Operator("s", "add", ("a", "b")), relu("r", "s"), conv("c", "r")]
    integer, points = names(operators)
    assert "s" in integer
    assert {"a", "b", "r"} <= set(points)
    assert "s" not in points


def test_sums_between_floats_stay_float_all_along_a_chain() -> None:
    operators = [
        Operator("n1", "other", ("x",)),
        Operator("l1", "linear", ("n1",)),
        Operator("s1", "add", ("x", "l1")),
        Operator("n2", "other", ("s1",)),
        Operator("l2", "linear", ("n2",)),
        Operator("s2", "add", ("s1", "l2")),
        Operator("n3", "other", ("s2",)),
    ]
    integer, points = names(operators)
    assert integer == {"l1", "l2"}
    assert set(points) == {"n1", "n2"}  # a linear layer that only floats read keeps its float output


def test_values_that_only_move_keep_the_scale_of_where_they_come_from() -> None:
    operators = [conv("a", "x"), Operator("p", "max_pool", ("a",)), Operator("q", "slice", ("p",)), conv("b", "q")]
    assert set(names(operators)[1]) == {"x", "a", "b"}


def test_what_floats_wrote_is_quantized_for_int8_readers_only() -> None:
    operators = [Operator("f", "other", ("x",)), conv("a", "f"), Operator("g", "other", ("f",))]
    points = {point.tensor: point for point in place(operators).points}
    assert points["f"].readers == frozenset({"a"})
    assert points["a"].readers is None


def test_ignored_operators_stay_float() -> None:
    integer, points = names([Operator("a", "conv", ("x",), ignored=True), conv("b", "a")])
    assert integer == {"b"}
    assert set(points) == {"a", "b"}


def test_operators_without_an_int8_kernel_stay_float() -> None:
    operators = [conv("a", "x"), Operator("t", "gelu", ("a",)), conv("b", "t")]
    assert names(operators)[0] == {"a", "b"}


def test_a_transposed_convolution_is_quantized_as_a_convolution_is() -> None:
    integer, points = names([conv("a", "x"), Operator("t", "conv_transpose", ("a",)), relu("r", "t"), conv("b", "r")])
    assert integer == {"a", "t", "b"}
    assert set(points) == {"x", "a", "r", "b"}


def test_silu_between_convolutions_is_int8_in_both_factors_and_its_sigmoid_stays_within_0_and_1() -> None:
    operators = [
        conv("a", "x"),
        Operator("g", "sigmoid", ("a",)),
        Operator("m", "mul", ("a", "g")),
        conv("b", "m"),
    ]
    placement = place(operators)
    assert placement.integer == {"a", "g", "m", "b"}
    assert {point.tensor: point.bounds for point in placement.points}["g"] == (0.0, 1.0)


def test_silu_behind_which_nothing_runs_in_int8_stays_float() -> None:
    integer, points = names(
        [
            conv("a", "x"),
            Operator("g", "sigmoid", ("a",)),
            Operator("m", "mul", ("a", "g")),
            Operator("y", "other", ("m",)),
        ]
    )
    assert integer == {"a"}
    assert set(points) == {"x", "a"}


def test_silu_behind_a_linear_layer_stays_float_because_its_float_output_costs_nothing() -> None:
    operators = [
        Operator("a", "linear", ("x",)),
        Operator("g", "sigmoid", ("a",)),
        Operator("m", "mul", ("a", "g")),
        Operator("b", "linear", ("m",)),
    ]
    integer, points = names(operators)
    assert integer == {"a", "b"}
    assert set(points) == {"x", "m"}
