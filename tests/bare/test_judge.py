from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from compress.bare.judge import Judge
from compress.bare.samples import Samples
from compress.errors import UsageError
from compress.exporting.graph import Graph
from compress.quantization.outputs import relative_error
from tests.quantization.graphs import floats, graph, node, run, two_convolutions

X = floats(50, 3, 8, 8, seed=9)


def changed() -> ModelProto:
    """Another network of the same inputs and outputs."""
    proto = two_convolutions()
    values = Graph(proto.graph)
    values.arrays["w3"] = values.arrays["w3"] + floats(5, 6, seed=13, scale=0.5)
    values.write()
    return proto


def classes(proto: ModelProto) -> np.ndarray:
    result: np.ndarray = run(proto, x=X)[0].argmax(1)
    return result


def test_agreement_without_labels() -> None:
    judge = Judge(two_convolutions(), Samples({"x": X}), 16, fixed=False)
    assert judge.metric == "agreement"
    same, other = judge(two_convolutions()), judge(changed())
    assert (same.value, same.loss) == (1.0, 0.0)
    agreed = float(np.mean(classes(changed()) == classes(two_convolutions())))
    assert 0 < agreed < 1
    assert (other.value, other.loss) == pytest.approx((agreed, 1 - agreed))


def test_accuracy_with_labels_may_be_gained() -> None:
    labels = classes(changed())
    judge = Judge(two_convolutions(), Samples({"x": X}, labels), 16, fixed=False)
    agreed = float(np.mean(labels == classes(two_convolutions())))
    found = judge(changed())
    assert (found.metric, found.value) == ("accuracy", 1.0)
    assert found.loss == pytest.approx(agreed - 1)
    assert judge(two_convolutions()).loss == 0


def test_relative_error_where_the_output_is_no_class() -> None:
    nodes = [node("Conv", "x w", "y")]
    one, other = (
        graph(nodes, {"w": floats(4, 3, 3, 3, seed=seed)}, {"x": ["batch", 3, 8, 8]}, {"y": None}) for seed in (0, 1)
    )
    judge = Judge(one, Samples({"x": X}), 16, fixed=False)
    found = judge(other)
    assert found.metric == "relative_error" and found.value == found.loss
    assert found.loss == pytest.approx(relative_error(run(other, x=X)[0], run(one, x=X)[0]), rel=1e-4)


def test_a_fixed_batch_is_filled_and_the_filling_is_not_judged() -> None:
    fixed = two_convolutions()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 16
    judge = Judge(fixed, Samples({"x": X}), 16, fixed=True)
    assert [feed["x"].shape[0] for feed in judge.feeds] == [16] * 4
    assert judge.reference["y"].shape == (50, 5)
    assert np.allclose(judge.reference["y"], run(two_convolutions(), x=X)[0], atol=1e-5)


def test_a_single_number_is_no_class() -> None:
    proto = graph([node("MatMul", "x w", "y")], {"w": floats(4, 1)}, {"x": ["batch", 4]}, {"y": None})
    assert Judge(proto, Samples({"x": floats(6, 4)}), 4, fixed=False).metric == "relative_error"


def test_classes_that_are_a_pixel_wide_are_classes() -> None:
    nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "y")]
    proto = graph(nodes, {"w": floats(4, 3, 3, 3)}, {"x": ["batch", 3, 8, 8]}, {"y": None})
    judge = Judge(proto, Samples({"x": X}, np.zeros(50, np.int64)), 16, fixed=False)
    assert judge.metric == "accuracy"
    assert judge(proto).value == pytest.approx(np.mean(run(proto, x=X)[0].reshape(50, 4).argmax(1) == 0))


def test_outputs_without_floats_are_refused() -> None:
    nodes = [node("Conv", "x w", "c"), node("ArgMax", "c", "y", axis=1)]
    proto = graph(nodes, {"w": floats(4, 3, 3, 3)}, {"x": ["batch", 3, 8, 8]}, {"y": None}, integers=["y"])
    with pytest.raises(UsageError, match="no output of float32"):
        Judge(proto, Samples({"x": X}), 16, fixed=False)


def test_an_output_without_a_row_for_each_sample_is_refused() -> None:
    nodes = [node("Conv", "x w", "c"), node("ReduceMean", "c", "y", keepdims=0)]
    proto = graph(nodes, {"w": floats(4, 3, 3, 3)}, {"x": ["batch", 3, 8, 8]}, {"y": None})
    with pytest.raises(UsageError, match="y"):
        Judge(proto, Samples({"x": X}), 16, fixed=False)
