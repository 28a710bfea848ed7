from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.quantization.outputs import OutputError, changed_share, divergence, relative_error
from compress.quantization.post_training.weights import quantize_weights
from compress.quantization.template import insert, template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run, two_convolutions

ONE, OTHER = floats(40, 5), floats(40, 5, seed=1)


def test_relative_error_is_the_mean_squared_error_over_the_variance() -> None:
    assert relative_error(ONE, ONE) == 0
    assert relative_error(OTHER, ONE) == pytest.approx(np.mean((OTHER - ONE) ** 2) / np.var(ONE), rel=1e-5)
    assert relative_error(np.full((3, 1), 2.0), np.ones((3, 1))) == 3.0  # there is nothing to relate it to


def test_divergence_is_torchs() -> None:
    ours, theirs = (torch.from_numpy(array).double().log_softmax(-1) for array in (OTHER, ONE))
    expected = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    assert divergence(OTHER, ONE) == pytest.approx(float(expected))
    assert divergence(ONE, ONE) == 0
    assert divergence(ONE + 7, ONE) == pytest.approx(0, abs=1e-6)


def test_changed_share_counts_rows() -> None:
    changed = ONE.copy()
    changed[:10] = -changed[:10]
    assert changed_share(changed, ONE) == 0.25


def test_the_error_of_a_graph_is_that_of_its_outputs() -> None:
    floating = two_convolutions()
    x = floats(24, 3, 8, 8, seed=9)
    error = OutputError(floating, lambda: batches_of("x", x, 10))
    template = template_of(floating)
    found = insert(template, dict.fromkeys(template.groups, (0.05, 0)), quantize_weights(template))
    expected = relative_error(run(found, x=x)[0], run(floating, x=x)[0])
    assert error(found) == pytest.approx(expected, rel=0.02)  # rounding of a few values falls the other way
    assert error(floating) == pytest.approx(0, abs=1e-9)


def test_several_outputs_count_alike_and_integers_do_not() -> None:
    x = floats(4, 3)
    proto = graph(
        [node("Exp", "x", "a"), node("Mul", "x x", "b"), node("ArgMax", "x", "c", axis=1)],
        {},
        {"x": ["batch", 3]},
        {"a": None, "b": None, "c": None},
        integers=["c"],
    )
    other = graph(
        [node("Sin", "x", "a"), node("Mul", "x x", "b"), node("ArgMin", "x", "c", axis=1)],
        {},
        {"x": ["batch", 3]},
        {"a": None, "b": None, "c": None},
        integers=["c"],
    )
    error = OutputError(proto, lambda: [{"x": x}])
    assert error(other) == pytest.approx(relative_error(np.sin(x), np.exp(x)) / 2, rel=1e-5)


def test_what_is_not_finite_is_infinitely_wrong() -> None:
    x = np.zeros((2, 3), np.float32)
    error = OutputError(graph([node("Exp", "x", "a")], {}, {"x": [2, 3]}, {"a": None}), lambda: [{"x": x}])
    assert error(graph([node("Log", "x", "a")], {}, {"x": [2, 3]}, {"a": None})) == float("inf")
