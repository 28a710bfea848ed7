"""Two ONNX files evaluated on digits: what the second loses against the first, by other means than the module's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from compress.bundle import Bundle, Deployment, Kind, write_bundle
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.profiling.evaluate import FLIPS_FILE, evaluate_bundle, some
from compress.profiling.right import unpacked
from compress.stage import Context
from compress.targets.settings import TargetSettings

DATA = read_data_settings("digits")


def bundle(folder: Path, noise: float) -> Bundle:
    """A linear classifier of digits, by least squares, its weights shaken."""
    data = open_data(DATA)
    batch = data.batch(data.train, np.arange(len(data.train)))
    images = batch.inputs[0].reshape(len(data.train), -1)
    weight, *_ = np.linalg.lstsq(images, np.eye(10)[batch.targets], rcond=None)
    weight += np.random.default_rng(0).normal(0, noise, weight.shape)
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[batch,1,8,8] input) => (float[batch,10] output) '
    graph = parser.parse_model(text + "{ flat = Flatten(input) output = MatMul(flat, w) }")
    graph.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "w"))
    folder.mkdir()
    onnx.save(graph, folder / "model.onnx")
    return write_bundle(folder, Kind.ONNX, Deployment({"name": "image-classification"}, (), ()))


@pytest.mark.parametrize("samples", [None, 100])
def test_flips_are_told_by_their_numbers_in_the_test_data(tmp_path: Path, samples: int | None) -> None:
    target = TargetSettings.model_validate({"evaluate": {"samples": samples}})
    context = Context(data=DATA, target=target)
    found: dict[str, Any] = {}
    reference = None
    for name, noise in (("before", 0.0), ("after", 0.02)):
        out = tmp_path / f"{name}-answers"
        out.mkdir()
        found = evaluate_bundle(bundle(tmp_path / name, noise), reference, out, context)
        reference = Bundle(Kind.ONNX, out, "")
    assert found["examples"]["test"] == (samples or 359) and found["labels"] == list("0123456789")

    test, moved = open_data(DATA).test, found["test"]["flips"]
    shown = json.loads((tmp_path / "after-answers" / FLIPS_FILE).read_text())
    assert (
        moved["became_wrong"]
        and [row["index"] for row in shown if row["kind"] == "became_wrong"] == (moved["became_wrong"][:8])
    )
    for index, right, before, after in moved["classes"]:
        assert test.targets([index])[0] == right and before != after
    share = unpacked(found["test"]["right"]).mean()
    assert len(unpacked(found["test"]["right"])) == found["examples"]["test"]
    assert share == pytest.approx(found["test"]["accuracy"]) and "right" not in found["validation"]
    lost = len(moved["became_wrong"]) - len(moved["became_right"])
    low, high = found["test"]["accuracy_drop_ci95"]
    assert low <= lost / found["examples"]["test"] <= high
    if samples is not None:
        assert max(row[0] for row in moved["classes"]) > samples  # they are no places in the drawn part


def test_a_part_of_a_split_is_drawn_the_same_way_each_time_and_keeps_its_order() -> None:
    split = open_data(read_data_settings({"source": {"digits": {}}})).test
    everything = split.targets(np.arange(len(split)))
    part = some(split, 100)
    assert len(part) == 100
    targets = part.targets(np.arange(100))
    np.testing.assert_array_equal(targets, some(split, 100).targets(np.arange(100)))
    left = iter(everything)
    assert all(any(wanted == found for found in left) for wanted in targets)  # a subsequence
    assert len(np.unique(targets)) == 10
    assert some(split, len(split)) is split
