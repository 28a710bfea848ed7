from __future__ import annotations

import numpy as np
import pytest

from compress.bundle import Deployment, TensorSpec
from compress.errors import UsageError
from compress.exporting.sizes import fill, with_sizes

TEXTS = Deployment(
    task={"name": "text-classification", "arguments": {}},
    inputs=(
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "sequence")),
    ),
    outputs=(TensorSpec("output", "float32", ("batch", 5)),),
    extra={"sizes": {"sequence": 10}, "tokenizer": {"max_length": 12}},
)


def test_axes_of_those_names_are_fixed_and_others_stay() -> None:
    fixed = with_sizes(TEXTS, {"sequence": 16})
    assert [spec.shape for spec in (*fixed.inputs, *fixed.outputs)] == [("batch", 16), ("batch", 16), ("batch", 5)]
    assert with_sizes(TEXTS, {"batch": 1}).outputs[0].shape == (1, 5)
    assert with_sizes(TEXTS, {}) == TEXTS


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"sequnce": 16}, "unknown axis 'sequnce' (did you mean 'sequence'?)"),
        ({"sequence": 11}, "texts have up to 12 tokens, and 11 are too few"),
    ],
)
def test_impossible_sizes_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_sizes(TEXTS, sizes)
    assert message in str(caught.value)


def test_texts_are_filled_up_with_zeros_and_images_left_alone() -> None:
    ids, mask = np.array([[5, 6, 7]]), np.array([[1, 1, 1]])
    filled = fill((ids, mask), with_sizes(TEXTS, {"sequence": 16}))
    assert [array.tolist()[0] for array in filled] == [[5, 6, 7] + [0] * 13, [1, 1, 1] + [0] * 13]
    assert all(one is other for one, other in zip(fill((ids, mask), TEXTS), (ids, mask), strict=True))
