from typing import Any

import pytest

from compress.targets.measuring.axes import batch_names, concrete_shapes, fixed_batch
from compress.targets.measuring.errors import RequestError


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"x": ["batch", 3, "height", "width"]}, {"batch"}),
        ({"x": ["N", 3]}, {"N"}),
        ({"x": ["anything", 3]}, {"anything"}),
        ({"x": ["time", "batch", 8]}, {"batch"}),
        ({"x": [None, 4], "y": ["n", 2]}, {"x:0", "n"}),
        ({"x": [1, 4]}, set()),
        ({"x": []}, set()),
    ],
)
def test_which_axis_is_the_batch(inputs: dict[str, list[Any]], names: set[str]) -> None:
    assert batch_names(inputs, {}) == names


def test_concrete_shapes_put_sizes_in_for_names() -> None:
    inputs: dict[str, list[Any]] = {"ids": ["batch", "sequence"], "mask": ["batch", "sequence"], "scale": [1]}
    assert concrete_shapes(inputs, 8, {"sequence": 128}) == {"ids": [8, 128], "mask": [8, 128], "scale": [1]}


def test_the_batch_of_a_bound_file_is_its_own() -> None:
    assert fixed_batch({"x": [4, 3]}, {}) == 4
    assert fixed_batch({"x": ["batch", 3]}, {}) is None
    assert fixed_batch({"x": ["batch", 3]}, {"batch": 2}) == 2
    assert fixed_batch({"x": []}, {}) == 1


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "its dynamic axes 'height', 'x:3' need sizes: --shape height=SIZE --shape x:3=SIZE"),
        ({"height": 4}, "its dynamic axis 'x:3' needs a size: --shape x:3=SIZE"),
        (
            {"height": 4, "x:3": 4, "depth": 2},
            "it has no dynamic axis 'depth': its dynamic axes are batch, height, x:3",
        ),
    ],
)
def test_axes_without_a_size_are_named_with_what_to_say(axes: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        concrete_shapes({"x": ["batch", 3, "height", None]}, 1, axes)
    assert caught.value.kind == "axes"
    assert message in str(caught.value)
