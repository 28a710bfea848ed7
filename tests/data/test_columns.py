from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from compress.data.columns import Wanted, open_columns
from compress.errors import UsageError

CONTENT = {"train": "a", "test": "b"}


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def test_number_columns_make_vectors() -> None:
    opened = open_columns({"train": table(a=[1, 2], b=[0.5, 1.5], y=[0, 1])}, Wanted(("b", "a"), "y"), CONTENT)
    split = opened.splits["train"]
    assert [example.tolist() for example in split.raw([1, 0])] == [[1.5, 2.0], [0.5, 1.0]]
    assert split.targets([1, 0]).tolist() == [1, 0]
    assert not opened.images


def test_one_number_is_a_vector_of_one() -> None:
    split = open_columns({"train": table(a=[1.5], y=[2.5])}, Wanted("a", "y"), CONTENT).splits["train"]
    assert split.raw([0])[0].shape == (1,)
    assert split.targets([0]).tolist() == [[2.5]]


def test_lists_are_arrays_and_several_targets_vectors() -> None:
    data = table(x=[[[1.0, 2.0]], [[3.0, 4.0]]], u=[1, 2], v=[0.1, 0.2], w=[[1, 2], [3, 4]])
    several = open_columns({"train": data}, Wanted("x", ("u", "v")), CONTENT).splits["train"]
    assert several.raw([1])[0].tolist() == [[3.0, 4.0]]
    np.testing.assert_allclose(several.targets([1]), [[2, 0.2]], rtol=1e-6)
    lists = open_columns({"train": data}, Wanted("x", "w"), CONTENT).splits["train"].targets([1, 0])
    assert (lists.tolist(), str(lists.dtype)) == ([[3, 4], [1, 2]], "float32")


def test_names_are_classes_over_all_splits() -> None:
    coded = pa.array(["cat", "ant"]).dictionary_encode()
    opened = open_columns(
        {"train": table(a=[1, 2], y=["dog", "cat"]), "test": table(a=[1, 2], y=coded)}, Wanted("a", "y"), CONTENT
    )
    assert opened.labels == ("ant", "cat", "dog")
    assert opened.splits["train"].targets([0, 1]).tolist() == [2, 1]
    assert opened.splits["test"].targets([0, 1]).tolist() == [1, 0]
    ordered = open_columns({"train": table(a=[1], y=["b"])}, Wanted("a", "y", labels=("b", "a")), CONTENT)
    assert ordered.labels == ("b", "a")


def test_hugging_face_keeps_names_in_metadata() -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": {"y": {"names": ["no", "yes"]}}}})}
    data = table(a=[1], y=[1]).replace_schema_metadata(metadata)
    assert open_columns({"train": data}, Wanted("a", "y"), CONTENT).labels == ("no", "yes")


@pytest.mark.parametrize(
    ("data", "wanted", "message"),
    [
        (table(a=[1], y=[1]), Wanted("b", "y"), r"has no column 'b'; it has a \(int64\), y \(int64\)"),
        (
            table(a=["x"], b=[1], y=[1]),
            Wanted(("a", "b"), "y"),
            "columns that make a vector hold numbers; 'a' holds string",
        ),
        (table(a=[{"k": 1}], y=[1]), Wanted("a", "y"), "'a' holds struct"),
        (table(a=[1], y=["x", None][1:]), Wanted("a", "y"), "'y' holds null"),
    ],
)
def test_columns_that_cannot_be_read_are_refused(data: pa.Table, wanted: Wanted, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_columns({"train": data}, wanted, CONTENT)


def test_empty_and_mixed_targets_are_refused() -> None:
    with pytest.raises(UsageError, match="1 targets of the train split are empty"):
        open_columns({"train": table(a=[1, 2], y=["x", None])}, Wanted("a", "y"), CONTENT)
    with pytest.raises(UsageError, match="class names in some splits, int64 in test"):
        open_columns({"train": table(a=[1], y=["x"]), "test": table(a=[1], y=[1])}, Wanted("a", "y"), CONTENT)
    split = open_columns({"train": table(a=[1, 2], y=[[1], [1, 2]])}, Wanted("a", "y"), CONTENT).splits["train"]
    with pytest.raises(UsageError, match=r"one shape, found \(1,\), \(2,\)"):
        split.targets([0, 1])
    split = open_columns({"train": table(a=[1, 2], y=[1, None])}, Wanted("a", "y"), CONTENT).splits["train"]
    with pytest.raises(UsageError, match="has 1 empty values"):
        split.targets([0])
