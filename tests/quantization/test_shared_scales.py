from __future__ import annotations

from compress.quantization.operators import Operator
from compress.quantization.placement import place
from tests.quantization.placed import conv, names, relu

RECTIFIED = (0.0, float("inf"))


def test_concat_shares_one_scale_unless_only_some_of_it_is_rectified() -> None:
    start = [conv("a", "x"), conv("b", "x")]
    end = conv("c", "j")
    _, points = names([*start, Operator("j", "concat", ("a", "b")), end])
    assert points["a"] == points["b"] == points["j"]
    _, points = names([*start, relu("r", "b"), Operator("j", "concat", ("a", "r")), end])
    assert len({points["a"], points["r"], points["j"]}) == 3


def block(number: int, source: str, *, rectified: bool = True) -> list[Operator]:
    """A residual block; it writes `r` and its number."""
    a, b, s, r = (f"{name}{number}" for name in "absr")
    operators = [
        conv(f"{a}_", source),
        relu(a, f"{a}_"),
        conv(b, a),
        Operator(s if rectified else r, "add", (source, b)),
    ]
    return [*operators, relu(r, s)] if rectified else operators


def test_without_zero_points_residual_sums_in_a_row_have_one_scale() -> None:
    operators = [conv("x_", "i"), relu("x", "x_"), *block(1, "x"), *block(2, "r1"), conv("y", "r2")]
    points = {point.tensor: point for point in place(operators, symmetric=True).points}
    together = {"x", "b1", "r1", "b2", "r2"}
    assert {points[tensor].group for tensor in together} == {"x"}
    assert {points[tensor].bounds for tensor in together} == {RECTIFIED}
    assert all(point.group == point.tensor for tensor, point in points.items() if tensor not in together)
    affine = place(operators).points
    assert [point.group for point in affine] == [point.tensor for point in affine]
    assert next(point for point in affine if point.tensor == "b1").bounds is None


def test_the_range_of_a_sum_without_relu_has_two_sides() -> None:
    operators = [conv("x", "i"), *block(1, "x", rectified=False), conv("y", "r1")]
    points = {point.tensor: point for point in place(operators, symmetric=True).points}
    assert points["x"].group == points["b1"].group == points["r1"].group
    assert points["r1"].bounds is points["x"].bounds is None


def test_a_sum_that_only_a_pool_reads_keeps_its_scales() -> None:
    pool = Operator("p", "global_average_pool", ("r1",))
    operators = [conv("x_", "i"), relu("x", "x_"), *block(1, "x"), pool, Operator("y", "linear", ("p",))]
    found = place(operators, symmetric=True).points
    assert [point.group for point in found] == [point.tensor for point in found]


def test_a_sum_of_what_others_read_too_or_of_what_is_clipped_keeps_its_scales() -> None:
    both = [
        conv("a", "x"),
        conv("b", "x"),
        Operator("s", "add", ("a", "b")),
        conv("c", "s"),
        conv("d", "a"),
        conv("e", "b"),
    ]
    clip = Operator("k", "clip", ("k_",), (0.0, 6.0))
    clipped = [conv("k_", "x"), clip, conv("b", "k"), Operator("s", "add", ("k", "b")), conv("c", "s")]
    for operators in (both, clipped):
        found = place(operators, symmetric=True).points
        assert [point.group for point in found] == [point.tensor for point in found]
