from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer  # type: ignore[import-untyped]

from compress.data.dataset import ArraySplit, Data
from compress.exporting.torch_onnx import example_inputs
from compress.models.deployment import copy_tokenizer, deployment_of, nominal_inputs, write_tokenizer
from compress.tasks.open import open_task
from compress.tasks.settings import read_task_settings
from tests.data.text_helpers import labelled, opened, table


def asked(folder: Path) -> Data:
    rows = [{"q": "the cat sat", "r": "a mat", "a": "a dog ."} for _ in range(40)]
    source = {"table": {"path": table(folder, rows), "input": ["q", "r"], "target": "a"}}
    return opened(folder, source, {"targets": "text", "max_length": 300, "target_max_length": 20})


@pytest.mark.parametrize(
    ("task", "output", "axes", "answer"),
    [
        ("text-classification", (2,), ["sequence"] * 2, (2,)),
        ("masked-lm", (7, 14), ["sequence"] * 2, ("sequence", 14)),
        ("causal-lm", (7, 14), ["sequence"] * 2, ("sequence", 14)),
        ("sequence-to-sequence", (4, 14), ["sequence", "sequence", "target_sequence"], ("target_sequence", 14)),
    ],
)
def test_axes_of_tokens_are_free_and_named(
    task: str, output: Any, axes: list[str], answer: Any, tmp_path: Path
) -> None:
    opened_task = open_task(read_task_settings(task))
    data = opened_task.prepare(asked(tmp_path) if task == "sequence-to-sequence" else labelled(tmp_path))
    found = deployment_of(data, opened_task, {"name": task}, torch.zeros(2, *output))
    assert [(spec.dtype, spec.shape) for spec in found.inputs] == [("int64", ("batch", axis)) for axis in axes]
    assert found.outputs[0].shape == ("batch", *answer)
    assert found.preprocessing == ()
    assert found.extra["tokenizer"]["inputs"] == list(data.input_names)


def test_lengths_are_those_of_the_data_but_no_more_than_are_measured(tmp_path: Path) -> None:
    task = open_task(read_task_settings("sequence-to-sequence"))
    data = task.prepare(asked(tmp_path))
    found = deployment_of(data, task, {}, torch.zeros(1, 4, 14))
    assert found.extra["sizes"] == {"sequence": 128, "target_sequence": 20}
    shapes = [(1, 128), (1, 128), (1, 20)]
    for given in (nominal_inputs(data), example_inputs(found, batch=1, nominal=True)):
        assert [tuple(x.shape) for x in given] == shapes
        assert all(x.dtype == torch.int64 for x in given) and bool((given[1] == 1).all())
    short = [tuple(x.shape) for x in example_inputs(found)]
    assert short[0] == short[1] != short[2] and all(side < 10 for shape in short for side in shape)


def test_pictures_stay_as_they_were() -> None:
    split = ArraySplit(np.arange(64, dtype=np.float32).reshape(4, 1, 4, 4), np.arange(4) % 2)
    data = Data(split, split, split)
    found = deployment_of(data, open_task(read_task_settings("image-classification")), {}, torch.zeros(2, 2))
    assert [(s.name, s.dtype, s.shape) for s in found.inputs] == [("input", "float32", ("batch", 1, 4, 4))]
    assert found.outputs[0].shape == ("batch", 2) and found.extra == {}
    np.testing.assert_array_equal(nominal_inputs(data, 2)[0].numpy(), np.stack(split.raw([0, 1])))


def test_the_tokenizer_travels(tmp_path: Path) -> None:
    data = labelled(tmp_path)
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    write_tokenizer(data, tmp_path / "one")
    copy_tokenizer(tmp_path / "one", tmp_path / "two")
    copy_tokenizer(tmp_path / "three", tmp_path / "three")
    assert not list((tmp_path / "three").iterdir())
    read = Tokenizer.from_file(str(tmp_path / "two" / "tokenizer.json"))
    batch = data.batch(data.train, [0])
    assert read.encode(data.train.raw([0])[0]).ids == batch.inputs[0][0].tolist()
