from __future__ import annotations

import numpy as np
import pytest

from compress.quantization.post_training.static import grids, observe
from compress.quantization.ranges import CHOICES
from compress.quantization.template import template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run, two_convolutions

X = floats(40, 3, 8, 8, seed=9)


def test_the_ranges_of_minmax_are_those_of_the_tensors() -> None:
    template = template_of(two_convolutions())
    found = grids(template, observe(template, lambda: batches_of("x", X)), "minmax")
    assert found.keys() == {"x", "r1", "c2", "p"}
    for name, (scale, zero_point) in found.items():
        values = X if name == "x" else run(template.proto, name, x=X)[0]
        assert (127 - zero_point) * scale == pytest.approx(max(values.max(), 0), abs=scale)
        assert (-128 - zero_point) * scale == pytest.approx(min(values.min(), 0), abs=scale)
    assert found["r1"][1] == -128


@pytest.mark.parametrize("method", CHOICES)
def test_a_symmetric_grid_has_no_zero_point(method: str) -> None:
    template = template_of(two_convolutions())
    found = grids(template, observe(template, lambda: batches_of("x", X)), method, symmetric=True)
    assert {zero_point for _, zero_point in found.values()} == {0}


@pytest.mark.parametrize("method", CHOICES)
def test_no_range_is_wider_than_what_was_seen_nor_a_tenth_of_it(method: str) -> None:
    template = template_of(two_convolutions())
    seen = observe(template, lambda: batches_of("x", X))
    for name, (scale, _) in grids(template, seen, method).items():
        low, high = seen.extremes[name].range
        assert 0.1 * (high - low) < 255 * scale <= 1.0001 * (high - low)


def test_tensors_of_a_group_share_the_widest_range() -> None:
    proto = graph(
        [
            node("Conv", "x w", "a"),
            node("Conv", "x v", "b"),
            node("Concat", "a b", "c", axis=1),
            node("Conv", "c u", "y"),
        ],
        {"w": floats(4, 3, 1, 1), "v": floats(4, 3, 1, 1, seed=1, scale=10), "u": floats(2, 8, 1, 1)},
        {"x": ["batch", 3, 8, 8]},
        {"y": None},
    )
    template = template_of(proto)
    assert [p.tensor for p in template.groups["a"]] == ["a", "b", "c"]
    scale, _ = grids(template, observe(template, lambda: batches_of("x", X)), "minmax")["a"]
    wide = run(proto, "b", x=X)[0]
    assert 255 * scale == pytest.approx(wide.max() - wide.min(), rel=1e-3)


def test_a_tensor_that_is_always_zero_has_a_grid() -> None:
    template = template_of(two_convolutions())
    seen = observe(template, lambda: [{"x": np.zeros_like(X)}])
    for method in CHOICES:
        assert all(np.isfinite(scale) and scale > 0 for scale, _ in grids(template, seen, method).values())
