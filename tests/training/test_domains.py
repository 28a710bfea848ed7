from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from compress.bundle import Bundle, Kind
from compress.data.dataset import ArraySplit, Data
from compress.data.settings import read_data_settings
from compress.data.splits import Subset, Unlabelled
from compress.errors import UsageError
from compress.models import rest
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.training.domains import class_numbers_of, within
from compress.training.evaluate import predict
from compress.training.finish import open_training
from compress.training.stage import Train

LABELS = ("cat", "dog", "bird")


def test_classes_are_named_or_numbered() -> None:
    assert class_numbers_of(["dog", 0], LABELS, "classes") == (1, 0)
    assert class_numbers_of([7], None, "classes") == (7,)
    assert class_numbers_of(None, LABELS, "classes") is None


@pytest.mark.parametrize("where", ["classes", "teacher.classes"])
@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (["dgo"], LABELS, r"unknown class 'dgo' \(did you mean 'dog'\?\)"),
        (["dog"], None, "unknown class 'dog'"),
        ([3], LABELS, "there is no class 3"),
        ([-1], None, "there is no class -1"),
    ],
)
def test_classes_that_are_not_there_are_refused(
    classes: list[str | int], labels: tuple[str, ...] | None, message: str, where: str
) -> None:
    with pytest.raises(UsageError, match=f"^{where}: {message}"):
        class_numbers_of(classes, labels, where)


def test_only_examples_of_the_classes_are_left_to_train_and_choose_by(data: Data) -> None:
    part = within(data, (2, 0))
    for name in ("train", "validation"):
        split, whole = getattr(part, name), getattr(data, name)
        classes = whole.targets(np.arange(len(whole)))
        numbers = [number for number, own in enumerate(classes.tolist()) if own != 1]
        assert 0 < len(split) == len(numbers) < len(whole)
        batch, expected = part.batch(split, range(len(split))), data.batch(whole, numbers)
        np.testing.assert_array_equal(batch.targets, expected.targets)
        np.testing.assert_array_equal(batch.inputs[0], expected.inputs[0])
    assert part.test is data.test
    assert within(data, None) is data


def test_a_part_has_a_fingerprint_of_its_own_if_the_whole_has_one(data: Data) -> None:
    prints = [within(data, classes).fingerprint for classes in ((0, 1), (0, 2), (0, 1))]
    assert prints[0] == prints[2] != prints[1]
    assert data.fingerprint not in prints
    assert within(replace(data, fingerprint=""), (0, 1)).fingerprint == ""


def test_unlabelled_examples_stay_beside(data: Data) -> None:
    rest_of = Unlabelled(Subset(data.train, np.arange(20, 40)))
    assert within(replace(data, unlabelled=rest_of), (1,)).unlabelled is rest_of


def test_parts_without_examples_or_classes_are_refused(data: Data) -> None:
    with pytest.raises(UsageError, match="classes: the training split has no example of these classes"):
        within(data, (7,))
    few = replace(data, validation=Subset(data.validation, np.flatnonzero(data.validation.targets(range(60)) == 0)))
    with pytest.raises(UsageError, match="classes: the validation split has no example of these classes"):
        within(few, (1,))
    values = ArraySplit(np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float32))
    with pytest.raises(UsageError, match="classes: the data's targets are no classes"):
        within(Data(values, values, values), (0,))


@pytest.mark.parametrize("classes", [[], [1.5], "0", [None]])
def test_settings_are_names_and_numbers(classes: Any) -> None:
    with pytest.raises(ValidationError):
        Train.model_validate({"classes": classes})


def test_experts_are_other_stages_than_the_whole() -> None:
    asked = [str(Train.model_validate(given).asked()) for given in ({}, {"classes": [0]}, {"classes": [1]})]
    assert len(set(asked)) == 3


def digits() -> Context:
    settings = {"source": {"digits": {}}, "preprocessing": [{"scale": 0.0625}]}
    return Context(device="cpu", threads=1, data=read_data_settings(settings))


def untrained(folder: Path, context: Context) -> Bundle:
    home = folder / "net"
    home.mkdir()
    Build(name="net", model=ModelSettings(zoo="resnet8", width=0.5)).run({}, home, context)
    return Bundle(Kind.TORCH, home)


def test_an_expert_knows_its_classes_and_no_others(tmp_path: Path) -> None:
    context, out = digits(), tmp_path / "out"
    source = untrained(tmp_path, context)
    out.mkdir()
    stage = Train.model_validate({"classes": [0, "1", 2, 3, "4"], "epochs": 6, "batch_size": 32, "learning_rate": 0.1})
    metrics = stage.run({"source": source}, out, context)
    data = open_training(source, context).data
    known = np.isin(data.train.targets(range(len(data.train))), range(5))
    assert metrics["training"]["steps"] == 6 * -(-int(known.sum()) // 32)
    answers, classes = predict(rest.load(out), data, data.test).argmax(1), data.test.targets(range(len(data.test)))
    assert (answers[classes < 5] == classes[classes < 5]).mean() > 0.9
    assert set(answers.tolist()) <= {0, 1, 2, 3, 4}
    # The record judges it on all classes, as every other model; training chose by its own.
    assert metrics["validation"]["accuracy"] < 0.6
    assert max(epoch["validation"]["accuracy"] for epoch in metrics["training"]["epochs"]) > 0.9


def test_the_stage_says_what_there_is_not(tmp_path: Path) -> None:
    context = digits()
    source = untrained(tmp_path, context)
    with pytest.raises(UsageError, match=r"^classes: there is no class 10"):
        Train(classes=(10,)).run({"source": source}, tmp_path, context)
    with pytest.raises(UsageError, match=r"^classes: unknown class 'ten'"):
        Train(classes=("ten",)).run({"source": source}, tmp_path, context)
