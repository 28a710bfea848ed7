from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from compress.bundle import Bundle, Kind
from compress.data.dataset import ArraySplit, Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.data.splits import Subset, Unlabelled
from compress.distillation.distill import distill, method_for
from compress.distillation.stage import Distill
from compress.distillation.unlabelled import Joined, with_unlabelled
from compress.errors import UsageError
from compress.models.settings import ModelSettings
from compress.models.stage import Build
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.batches import to_torch
from compress.training.evaluate import predict
from compress.training.method import TrainingProgress
from compress.training.settings import Recipe
from compress.training.train import train
from tests.data.text_helpers import opened, table
from tests.distillation.networks import task_of

MakeNetwork = Callable[..., nn.Sequential]
Array = npt.NDArray[np.float64]
CONTEXT = Context(device="cpu", threads=1)
HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
CPU = torch.device("cpu")


def hidden(data: Data, kept: int) -> Data:
    """The data with all labels hidden but those of the first examples."""
    numbers = np.arange(len(data.train))
    rest = Unlabelled(Subset(data.train, numbers[kept:]), data.target_shape)
    return replace(data, train=Subset(data.train, numbers[:kept]), unlabelled=rest, _prepared={}, _encoded={})


@pytest.mark.parametrize("targets", ["classes", "values"])
def test_joined_splits_are_read_as_if_they_were_one(targets: str) -> None:
    generator = np.random.default_rng(0)
    values: Any = np.arange(30) if targets == "classes" else generator.normal(size=(30, 2)).astype(np.float32)
    inputs = generator.normal(size=(30, 3))
    first, second = ArraySplit(inputs[:11], values[:11]), ArraySplit(inputs[11:], values[11:])
    joined = Joined(first, second)
    assert len(joined) == 30
    for indices in (np.arange(30), generator.permutation(30), [10, 11], [29, 0, 29], [3], [20, 12], np.array([], int)):
        numbers = np.asarray(indices, dtype=np.int64)
        found = joined.targets(indices)
        np.testing.assert_array_equal(found, values[numbers])
        assert found.dtype == first.targets([0]).dtype
        raw = joined.raw(indices)
        np.testing.assert_array_equal(np.array(raw).reshape(-1, 3), inputs[numbers])
        assert len(raw) == len(numbers)


def test_joined_batches_are_those_of_the_parts(data: Data) -> None:
    known = hidden(data, 40)
    assert known.unlabelled is not None
    whole = with_unlabelled(known)
    assert (len(whole.train), len(known.train), len(known.unlabelled)) == (120, 40, 80)
    batch = whole.batch(whole.train, [119, 3, 40])
    plain = data.batch(data.train, [119, 3, 40])
    np.testing.assert_array_equal(batch.inputs[0], plain.inputs[0])
    assert batch.targets.tolist() == [-1, plain.targets[1], -1]
    assert batch.indices.tolist() == [119, 3, 40]
    assert whole.unlabelled is None
    assert whole.validation is data.validation
    assert with_unlabelled(whole) is whole
    assert with_unlabelled(data) is data


def test_joined_data_have_a_fingerprint_of_their_own_if_they_have_any(data: Data) -> None:
    known = hidden(data, 40)
    assert with_unlabelled(known).fingerprint not in ("", data.fingerprint)
    assert with_unlabelled(known).fingerprint != with_unlabelled(replace(known, fingerprint="other")).fingerprint
    # Two data sets in memory would share the answers of one teacher if both were given one.
    assert with_unlabelled(replace(known, fingerprint="")).fingerprint == ""


def test_texts_join_and_unknown_answers_are_said(tmp_path: Path) -> None:
    rows = [{"s": f"the cat {'sat ' * (number % 3)}", "y": number % 2} for number in range(30)]
    more = table(tmp_path, [{"s": "a dog ."}, {"s": "on a mat"}], "more.jsonl")
    source = {"table": {"train": table(tmp_path, rows), "unlabelled": more, "input": "s", "target": "y"}}
    data = with_unlabelled(opened(tmp_path, source))
    last = len(data.train) - 1
    assert data.train.raw([last, last - 1, 0])[:2] == ["on a mat", "a dog ."]
    assert data.batch(data.train, [last, 0]).targets.tolist()[0] == -1
    known = opened(tmp_path, source, {"targets": "text"})
    answering = with_unlabelled(known)
    assert answering.train.target_texts([1, 0]) == known.train.target_texts([1, 0])  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="the targets of unlabelled examples are not known"):
        answering.train.target_texts([1, last])  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="the targets of unlabelled examples are not known"):
        answering.train.rationales([last])  # type: ignore[attr-defined]


# what the losses make of them


def log_softmax(logits: Array) -> Array:
    moved = logits - logits.max(1, keepdims=True)
    found: Array = moved - np.log(np.exp(moved).sum(1, keepdims=True))
    return found


def kl(student: Array, teacher: Array, temperature: float) -> float:
    own, theirs = log_softmax(student / temperature), log_softmax(teacher / temperature)
    return float(temperature**2 * (np.exp(theirs) * (theirs - own)).sum(1).mean())


def loss_of(
    student: nn.Module, teacher: nn.Module, data: Data, task: Task, losses: Any, indices: list[int]
) -> torch.Tensor:
    method = method_for(student, teacher, data, task, Recipe(), losses, CONTEXT, cache="off")
    return method.loss(student, to_torch(data.batch(data.train, indices), CPU), HERE)


def test_labels_count_where_they_are_known_and_the_teacher_everywhere(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    student, teacher, whole = make_network(2, 1).eval(), make_network().eval(), with_unlabelled(hidden(data, 40))
    losses = [
        {"kl": {"temperature": 2, "weight": 0.7}},
        {"task": {"weight": 0.2}},
        {"cross_entropy": {"label_smoothing": 0.1, "weight": 0.1}},
    ]
    indices = [0, 41, 7, 110, 60, 39]
    found = loss_of(student, teacher, whole, task, losses, indices)
    found.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())
    inputs = torch.from_numpy(data.batch(data.train, indices).inputs[0])
    with torch.no_grad():
        own, theirs = student(inputs).double().numpy(), teacher(inputs).double().numpy()
    known = np.array([0, 2, 5])
    classes = data.train.targets([0, 7, 39])
    logs = log_softmax(own)[known]
    nll = -logs[np.arange(3), classes].mean()
    smooth = 0.9 * nll - 0.1 * logs.mean(1).mean()
    assert found.item() == pytest.approx(0.7 * kl(own, theirs, 2) + 0.2 * nll + 0.1 * smooth, rel=1e-5)


def test_without_any_label_the_labels_terms_are_nothing(data: Data, task: Task, make_network: MakeNetwork) -> None:
    student, teacher, whole = make_network(2, 1).eval(), make_network().eval(), with_unlabelled(hidden(data, 40))
    losses: list[dict[str, Any]] = [{"task": {}}, {"cross_entropy": {}}]
    found = loss_of(student, teacher, whole, task, losses, [50, 60])
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in student.parameters())


def test_unknown_values_count_for_the_teacher_alone() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(20, 4)).astype(np.float32)
    split = ArraySplit(inputs, inputs[:, :2] * 3)
    whole, task = with_unlabelled(hidden(Data(split, split, split), 10)), task_of("regression")
    assert np.isnan(whole.train.targets([10])).all()
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 2), nn.Linear(4, 2)
    losses = [{"mse": {"weight": 0.5}}, {"task": {"weight": 2.0}}]
    found = loss_of(student, teacher, whole, task, losses, [3, 15, 4, 19])
    found.backward()  # type: ignore[no-untyped-call]
    assert bool(student.weight.grad.isfinite().all())  # type: ignore[union-attr]
    with torch.no_grad():
        own, theirs = (m(torch.from_numpy(inputs[[3, 15, 4, 19]])).double().numpy() for m in (student, teacher))
    labelled = task.loss(torch.from_numpy(own[[0, 2]]).float(), torch.from_numpy(inputs[[3, 4], :2] * 3))
    assert found.item() == pytest.approx(0.5 * ((own - theirs) ** 2).mean() + 2 * float(labelled), rel=1e-5)


# what is learnt from them


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def test_examples_without_labels_teach_more_than_the_few_labels(task: Task) -> None:
    source = {"source": {"digits": {}}, "preprocessing": [{"scale": 0.0625}]}
    whole = open_data(read_data_settings(source))
    data = open_data(read_data_settings({**source, "split": {"unlabelled": 0.95}}))
    assert len(data.train) < 0.06 * len(whole.train)
    teacher = network(0)
    train(teacher, whole, task, Recipe(epochs=6, learning_rate=0.01, optimizer="adamw"), CONTEXT)
    alone, taught = network(1), network(1)
    steps = Recipe(epochs=10, learning_rate=0.01, optimizer="adamw", keep="last")
    few = steps.model_copy(update={"epochs": 100})  # as many steps
    train(alone, data, task, few, CONTEXT)
    distill(taught, teacher, with_unlabelled(data), task, steps, [{"kl": {"temperature": 2}}], CONTEXT, cache="off")
    answers = [predict(net, whole, whole.test).argmax(1) for net in (teacher, alone, taught)]
    agreement = [float((answer == answers[0]).mean()) for answer in answers[1:]]
    assert agreement[1] > agreement[0] + 0.05, agreement
    assert agreement[1] > 0.9


def test_the_stage_trains_on_them_and_says_so_in_its_steps(tmp_path: Path) -> None:
    settings = {"source": {"digits": {}}, "limit": {"validation": 40, "test": 40}}
    found = []
    for name, split in (("labels", {}), ("hidden", {"split": {"unlabelled": 0.5}})):
        context = replace(CONTEXT, data=read_data_settings({**settings, **split}), task=TaskSettings())
        inputs = {}
        for role in ("source", "teacher"):
            home = tmp_path / name / role
            home.mkdir(parents=True)
            Build(name=role, model=ModelSettings(zoo="resnet8", width=0.25)).run({}, home, context)
            inputs[role] = Bundle(Kind.TORCH, home)
        out = tmp_path / name / "out"
        out.mkdir()
        stage = Distill.model_validate({"teacher": "t", "epochs": 1, "batch_size": 128})
        found.append(stage.run(inputs, out, context)["training"])
    data = open_data(read_data_settings({**settings, "split": {"unlabelled": 0.5}}))
    assert data.unlabelled is not None
    assert len(data.train) + len(data.unlabelled) == 1168
    assert found[0]["steps"] == found[1]["steps"] == -(-1168 // 128)
    assert found[0]["losses"] != found[1]["losses"]


def test_nothing_that_is_given_changes(data: Data) -> None:
    known = hidden(data, 40)
    before = copy.copy(known)
    whole = with_unlabelled(known)
    assert known == before
    assert "unlabelled?" in " ".join(open_task(TaskSettings()).check(whole))  # which plain training cannot learn
