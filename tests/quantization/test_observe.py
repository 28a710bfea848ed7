from __future__ import annotations

import numpy as np
import pytest

from compress.errors import StageError
from compress.quantization.observe import Watching, channel_means, extremes, histograms
from tests.quantization.graphs import batches_of, floats, graph, node, run, two_convolutions

X = floats(20, 3, 8, 8, seed=9)
NAMES = ["x", "c1", "r1", "f", "y"]


def test_inner_tensors_are_those_that_the_graph_computes() -> None:
    found = Watching(two_convolutions(), NAMES)({"x": X})
    assert list(found) == NAMES
    for name in NAMES[1:]:
        assert np.allclose(found[name], run(two_convolutions(), name, x=X)[0], atol=1e-5)
    assert found["x"] is X


def test_only_inputs_are_watched_without_running() -> None:
    assert Watching(two_convolutions(), ["x"])({"x": X})["x"] is X


def test_extremes_are_those_of_all_batches() -> None:
    found = extremes(two_convolutions(), NAMES, lambda: batches_of("x", X, 6))
    assert len(found["x"].lows) == 4
    for name in NAMES[1:]:
        whole = run(two_convolutions(), name, x=X)[0]
        assert found[name].range == pytest.approx((min(whole.min(), 0), max(whole.max(), 0)), rel=1e-5)
    assert found["r1"].range[0] == 0.0


def test_histograms_count_what_numpy_counts() -> None:
    edges = {"c1": (-9.0, 11.0)}
    found = histograms(two_convolutions(), edges, lambda: batches_of("x", X, 6))["c1"]
    expected, _ = np.histogram(run(two_convolutions(), "c1", x=X)[0], len(found.counts), edges["c1"])
    assert found.counts.sum() == expected.sum()
    assert np.abs(found.counts - expected).sum() <= 4  # a value on the edge of two bins


@pytest.mark.parametrize(("name", "axis"), [("c1", 1), ("f", -1), ("x", 1)])
def test_channel_means_are_those_over_all_else(name: str, axis: int) -> None:
    found = channel_means(two_convolutions(), [name], [axis], lambda: batches_of("x", X, 7))[name]
    whole = np.moveaxis(X if name == "x" else run(two_convolutions(), name, x=X)[0], axis, -1)
    expected = whole.reshape(-1, whole.shape[-1]).mean(0, dtype=np.float64)
    assert np.allclose(found, expected, atol=1e-6)


def test_what_is_not_finite_is_named() -> None:
    proto = graph([node("Log", "x", "l")], {}, {"x": ["batch", 2]}, {"l": None})
    with pytest.raises(StageError, match="calibration: l is not finite on the samples"):
        extremes(proto, ["l"], lambda: [{"x": np.array([[1, 0]], np.float32)}])


def test_no_samples_are_refused() -> None:
    with pytest.raises(StageError, match="no sample"):
        extremes(two_convolutions(), ["c1"], lambda: [])


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(StageError, match="the model fails on the samples") as error:
        Watching(two_convolutions(), ["y"])({"x": X[:, :2]})
    assert "\n" not in str(error.value)
