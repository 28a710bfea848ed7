from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto

from compress.exporting.graph import Graph
from compress.quantization.ladder import Ladder, Options, Quantization, Rung
from compress.quantization.outputs import OutputError, relative_error
from compress.quantization.template import Template, template_of
from tests.quantization.graphs import batches_of, floats, graph, node, run, two_convolutions

X = floats(48, 3, 8, 8, seed=9)
RUNGS = ("static", "corrected", "smoothed", "adaround", "mixed")


def ladder(proto: ModelProto, *rungs: str, **options: object) -> tuple[Ladder, Callable[[Quantization], float]]:
    """A ladder on `X`, and a judge by the relative error on half of it."""
    chosen = replace(Options(method="minmax", rungs=rungs or RUNGS, adaround_iterations=30), **options)  # type: ignore[arg-type]

    def loss(found: Quantization) -> float:
        return relative_error(run(found.canonical, x=X[:24])[0], run(proto, x=X[:24])[0])

    def feeds() -> list[dict[str, np.ndarray]]:
        return batches_of("x", X, 24)

    return Ladder(template_of(proto), feeds, OutputError(proto, feeds), chosen), loss


def names(rungs: list[Rung]) -> list[str]:
    return [rung.name for rung in rungs]


def planted() -> ModelProto:
    """Four convolutions in a row; weights of the third have one outlier a thousand times the others in each channel.

    What the outlier reads is a channel that is nearly zero, so that the network needs the other weights.
    """
    arrays = {f"w{i}": floats(6, 3 if i == 0 else 6, 3, 3, seed=i, scale=0.25) for i in range(4)}
    arrays |= {f"b{i}": floats(6, seed=10 + i, scale=0.1) for i in range(4)}
    arrays["w1"][0] *= 1e-6
    arrays["b1"][0] = 0
    arrays["w2"][:, 0, 1, 1] = 300.0
    nodes = []
    for i in range(4):
        nodes.append(node("Conv", f"{'x' if i == 0 else f'r{i - 1}'} w{i} b{i}", f"c{i}", pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", f"c{i}", f"r{i}"))
    return graph(nodes, arrays, {"x": ["batch", 3, 8, 8]}, {"r3": None})


def test_it_stops_at_the_first_rung_within_the_budget() -> None:
    climbing, loss = ladder(two_convolutions())
    (first,) = climbing.climb(loss, 1.0)
    assert first.name == "static"
    assert first.loss == pytest.approx(loss(first.result))
    rungs = climbing.climb(loss, first.loss * 0.999)
    assert names(rungs)[0] == "static"
    assert len(rungs) > 1
    assert [rung.loss <= first.loss * 0.999 for rung in rungs] == [False] * (len(rungs) - 1) + [True]


def test_without_a_budget_only_one_rung_is_climbed() -> None:
    climbing, loss = ladder(two_convolutions())
    assert names(climbing.climb(loss, None)) == ["static"]


def test_each_rung_has_less_error_than_the_best_below_it_or_is_left_out() -> None:
    climbing, loss = ladder(two_convolutions(), weight_bits=4)
    rungs = climbing.climb(loss, 0.0)
    assert "smoothed" not in names(rungs)  # there is no layer normalization
    free = [rung for rung in rungs if rung.name != "mixed"]
    assert len(free) >= 2
    assert all(later.error <= earlier.error for earlier, later in itertools.pairwise(free))


def test_a_rung_that_does_not_help_is_left_out() -> None:
    """Weights that lie on their grid have nothing to correct or to round."""
    proto = two_convolutions()
    values = Graph(proto.graph)
    for name in ("w1", "w2", "w3"):
        rows = values.arrays[name].reshape(len(values.arrays[name]), -1)
        scale = np.abs(rows).max(1, keepdims=True) / 127
        values.arrays[name] = (np.rint(rows / scale) * scale).astype(np.float32).reshape(values.arrays[name].shape)
    values.write()
    climbing, loss = ladder(proto, "static", "adaround")
    assert names(climbing.climb(loss, 0.0)) == ["static"]


def test_mixed_keeps_the_bad_layer_in_float_and_nothing_else() -> None:
    proto = planted()
    climbing, loss = ladder(proto, "static", "mixed")
    static, mixed = climbing.climb(loss, 0.01)
    assert static.loss > 0.1
    assert mixed.name == "mixed"
    assert mixed.result.in_float == ("c2",)
    assert mixed.result.template.layers.keys() == {"c0", "c1", "c3"}
    assert mixed.loss <= 0.01
    assert mixed.loss == pytest.approx(loss(mixed.result))


def test_mixed_is_left_out_where_all_of_it_would_have_to_be_float() -> None:
    climbing, loss = ladder(two_convolutions(), "static", "mixed")
    assert names(climbing.climb(loss, 0.0)) == ["static"]


def test_equalization_is_what_corrects_channels_of_unequal_size() -> None:
    proto = two_convolutions()
    values = Graph(proto.graph)
    factor = np.logspace(-1.5, 1.5, 8).astype(np.float32)
    values.arrays["w1"] = values.arrays["w1"] * factor.reshape(-1, 1, 1, 1)
    values.arrays["b1"] = values.arrays["b1"] * factor
    values.arrays["w2"] = values.arrays["w2"] / factor.reshape(-1, 1, 1)
    values.write()
    climbing, loss = ladder(proto, "static", "corrected")
    static, corrected = climbing.climb(loss, 0.0)
    assert corrected.choice.startswith("equalized")
    assert corrected.loss < 0.2 * static.loss


def test_the_best_of_all_ranges_is_chosen() -> None:
    x = X.copy()
    x[0, 0, 0, 0] = 200.0
    proto = two_convolutions()

    def feeds() -> list[dict[str, np.ndarray]]:
        return batches_of("x", x, 24)

    errors = {}
    for method in ("auto", "minmax", "percentile", "mse", "entropy"):
        options = Options(method=method, rungs=("static",))
        (rung,) = Ladder(template_of(proto), feeds, OutputError(proto, feeds), options).climb(lambda _: 0.0, None)
        errors[method] = rung.error
    assert errors["auto"] <= min(errors.values()) * 1.0001


def test_a_training_rung_sees_what_is_below_it() -> None:
    proto = two_convolutions()
    seen: list[list[str]] = []

    def train(below: object) -> tuple[str, Quantization]:
        assert isinstance(below, list)
        seen.append(names(below))
        return "by hand", below[0].result

    climbing, loss = ladder(proto, "static", "corrected", "trained")
    climbing.train = train
    rungs = climbing.climb(loss, 0.0)
    assert rungs[-1].name == "trained" and rungs[-1].choice == "by hand"
    assert seen == [names(rungs[:-1])]
    climbing.train = None
    assert "trained" not in names(climbing.climb(loss, 0.0))


def test_a_row_is_plain_data() -> None:
    import json

    climbing, loss = ladder(two_convolutions())
    (rung,) = climbing.climb(loss, None)
    row = json.loads(json.dumps(rung.row()))
    assert row["rung"] == "static" and row["in_float"] == [] and row["loss"] == pytest.approx(rung.loss)


def test_the_template_of_a_restricted_quantization_is_a_valid_one() -> None:
    climbing, loss = ladder(planted(), "static", "mixed")
    mixed = climbing.climb(loss, 0.01)[-1].result
    assert isinstance(mixed.template, Template)
    assert mixed.grid.keys() == mixed.template.groups.keys()
    assert mixed.weights.keys() == mixed.template.layers.keys()
