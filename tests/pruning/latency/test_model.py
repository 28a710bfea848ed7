from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from compress.pruning.latency.kinds import Layer, LayerKind
from compress.pruning.latency.model import Anchor, TimeModel, fit
from compress.pruning.latency.table import Grid, LatencyTable
from compress.pruning.shape import Channels, Shape, left

CONV = LayerKind("conv", (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
STRIDED = LayerKind("conv", (8, 8), (3, 3), (2, 2), (1, 1), (1, 1))
UP = LayerKind("conv_transpose", (4, 4), (2, 2), (2, 2), (0, 0), (1, 1))
ROW = LayerKind("linear", (1,))
KINDS = (CONV, STRIDED, UP, ROW)
WIDTHS = (4, 8, 16, 32)
BATCH = 2


def grid(kind: LayerKind, scale: float) -> Grid:
    """As many microseconds as there are weights, and some for the layer itself."""
    return Grid(kind, WIDTHS, WIDTHS, tuple(tuple(2 + scale * i * j for j in WIDTHS) for i in WIDTHS), 0.01)


TABLE = LatencyTable(BATCH, {kind: grid(kind, 0.1 + 0.1 * number) for number, kind in enumerate(KINDS)})
A, B, C, D = (Channels(0, ((name, 1.0),)) for name in "abcd")
LAYERS = (
    Layer("stem", CONV, Channels(4), A),
    Layer("stage.0.conv1", CONV, A, B),
    Layer("stage.0.conv2", CONV, B, A),
    Layer("stage.1.conv1", STRIDED, A, C),
    Layer("stage.1.up", UP, C, A),
    Layer("head", ROW, A, D),
)
WHOLE = Shape({"a": 32, "b": 32, "c": 32, "d": 8})
SHAPES = (
    WHOLE, Shape({"a": 8, "b": 16, "c": 32, "d": 8}), Shape({"a": 16, "b": 4, "c": 4, "d": 4}),
    Shape({"a": 4, "b": 4, "c": 4, "d": 4}), Shape({"a": 32, "b": 8, "c": 16, "d": 8}, frozenset({"stage.0"})),
)  # fmt: skip


def features(shape: Shape) -> list[float]:
    """By hand: milliseconds by the table, the number of layers, millions of numbers that they write."""
    kept, table, count, written = shape.kept, 0.0, 0, 0.0
    sizes = {CONV: 64, STRIDED: 16, UP: 64, ROW: 1}
    sides: tuple[tuple[str, int | str, str], ...] = (
        ("stem", 4, "a"), ("stage.0.conv1", "a", "b"), ("stage.0.conv2", "b", "a"), ("stage.1.conv1", "a", "c"),
        ("stage.1.up", "c", "a"), ("head", "a", "d"),
    )  # fmt: skip
    for layer, (name, source, target) in zip(LAYERS, sides, strict=True):
        if any(name.startswith(f"{path}.") for path in shape.dropped):
            continue
        inputs, outputs = source if isinstance(source, int) else kept[source], kept[target]
        table += (2 + (0.1 + 0.1 * KINDS.index(layer.kind)) * inputs * outputs) / 1000
        count += 1
        written += BATCH * outputs * sizes[layer.kind] / 1e6
    return [table, count, written]


def anchors(weights: Sequence[float], shapes: Sequence[Shape] = SHAPES) -> list[Anchor]:
    """Files that take exactly what the weights say."""
    return [Anchor(shape, float(np.dot(features(shape), weights))) for shape in shapes]


def test_features_are_those_by_hand() -> None:
    model = TimeModel(LAYERS, TABLE, anchors((1.0, 0.01, 5.0)))
    for shape in SHAPES:
        np.testing.assert_allclose(model._features(shape), features(shape))


@pytest.mark.parametrize("weights", [(1.0, 0.01, 5.0), (1.3, 0.0, 2.0), (0.8, 0.03, 0.0), (2.5, 0.002, 1.0)])
def test_predictions_are_of_a_network_whose_time_is_known(weights: tuple[float, float, float]) -> None:
    model = TimeModel(LAYERS, TABLE, anchors(weights))
    for shape in (*SHAPES, Shape({"a": 16, "b": 16, "c": 8, "d": 8}), Shape({"a": 8, "b": 8, "c": 8, "d": 8})):
        assert model.predict(shape) == pytest.approx(np.dot(features(shape), weights), rel=0.05)


def test_the_whole_network_is_nearly_what_was_measured() -> None:
    for factor in (0.7, 1.0, 1.6):
        measured = [Anchor(anchor.shape, anchor.ms * factor) for anchor in anchors((1.0, 0.01, 5.0))]
        model = TimeModel(LAYERS, TABLE, measured)
        for anchor in measured:
            assert model.predict(anchor.shape) == pytest.approx(anchor.ms, rel=0.05)


def test_of_one_file_what_is_left_over_goes_to_the_rest_in_equal_parts() -> None:
    likely = np.array([1.0, 0.0, 0.0])
    row = np.array([0.5, 6.0, 0.02])
    likely[1:] = 0.2 / row[1:]
    np.testing.assert_allclose(fit(row[None], np.array([row @ likely])), likely, rtol=1e-6)


def test_many_files_decide_by_themselves() -> None:
    generator = np.random.default_rng(0)
    weights = np.array([1.4, 0.02, 3.0])
    rows = np.stack([generator.uniform(0.1, 1, 200), generator.integers(4, 40, 200), generator.uniform(0, 0.3, 200)], 1)
    found = fit(rows, rows @ weights)
    np.testing.assert_allclose(found, weights, rtol=0.02)


def test_weights_are_never_negative() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        rows = generator.uniform(0.01, 10, (4, 3))
        found = fit(rows, generator.uniform(0.01, 10, 4))
        assert (found >= 0).all() and np.isfinite(found).all()


def test_a_sum_over_layers_is_the_whole() -> None:
    model = TimeModel(LAYERS, TABLE, anchors((1.1, 0.01, 4.0)))
    for shape in SHAPES:
        layers = left(LAYERS, shape.dropped)
        assert sum(model.layer_cost(layer, shape.kept) for layer in layers) == pytest.approx(model.predict(shape))
        by_table = model.layer_ms(shape)
        assert list(by_table) == [layer.name for layer in layers]
        assert sum(by_table.values()) == pytest.approx(features(shape)[0])


def test_layers_of_one_name_are_added() -> None:
    """A layer that runs twice."""
    model = TimeModel((LAYERS[0], LAYERS[0]), TABLE, [Anchor(WHOLE, 1.0)])
    assert model.layer_ms(WHOLE)["stem"] == pytest.approx(2 * (2 + 0.1 * 4 * 32) / 1000)


def test_one_more_file_mends_the_model() -> None:
    few = TimeModel(LAYERS, TABLE, anchors((1.0, 0.01, 5.0), SHAPES[:1]))
    shape = SHAPES[2]
    wanted = 2 * few.predict(shape)
    more = few.with_anchor(Anchor(shape, wanted))
    assert abs(more.predict(shape) - wanted) < 0.5 * abs(few.predict(shape) - wanted)
    assert len(few.anchors) == 1 and len(more.anchors) == 2


def test_what_is_dropped_is_not_left() -> None:
    assert [layer.name for layer in left(LAYERS, {"stage.1"})] == ["stem", "stage.0.conv1", "stage.0.conv2", "head"]
    assert left(LAYERS, ()) == list(LAYERS)
