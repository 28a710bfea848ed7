from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.data.dataset import ArraySplit, Data
from compress.distillation.distill import Voice, chosen_losses, default_losses, distill, method_for
from compress.distillation.method import Distillation
from compress.distillation.settings import LossTerm
from compress.distillation.teacher import Teacher
from compress.distillation.teacher_settings import Cache
from compress.distillation.terms.table import place_terms
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.evaluate import predict
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.settings import Recipe
from compress.training.train import train

MakeNetwork = Callable[..., nn.Sequential]
CONTEXT = Context(threads=1)
HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
LOSSES = [{"kl": {"temperature": 3, "weight": 0.7}}, {"cross_entropy": {"weight": 0.2}}, {"mse": {"weight": 0.5}}]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_loss_is_the_weighted_sum_with_gradients_for_the_student_only(task: Task) -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    batch = TorchBatch((torch.randn(6, 4),), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    terms = place_terms(chosen_losses(LOSSES, task), lambda: pytest.fail("nothing looks inside"), 0)
    method = Distillation(Teacher(teacher), terms, task)
    loss = method.loss(student, batch, HERE)
    own, theirs = student(*batch.inputs), teacher(*batch.inputs)
    p, q = (theirs / 3).softmax(1), (own / 3).softmax(1)
    expected = (
        0.7 * 9 * (p * (p / q).log()).sum(1).mean()
        + 0.2 * functional.cross_entropy(own, batch.targets)
        + 0.5 * ((own - theirs) ** 2).mean()
    )
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.weight.grad is not None
    assert teacher.weight.grad is None


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_a_student_learns_from_the_teacher_alone(data: Data, task: Task, make_network: MakeNetwork, cache: Any) -> None:
    teacher = make_network(width=8)
    train(teacher, data, task, Recipe(epochs=12, learning_rate=0.01), CONTEXT)
    before = state(teacher)
    wrong = ArraySplit(data.train.inputs, np.zeros(120, np.int64))  # type: ignore[attr-defined]
    unlabelled = replace(data, train=wrong)
    student = make_network(width=4, seed=1, dropout=0.0)
    recipe = Recipe(epochs=20, learning_rate=0.01)
    distill(student, teacher, unlabelled, task, recipe, ["kl"], CONTEXT, cache=cache)
    same = predict(student, data, data.test).argmax(1) == predict(teacher, data, data.test).argmax(1)
    assert same.mean() >= 0.9
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("cache", [Cache(views=2), "off"])
@pytest.mark.parametrize("step", ["mixup", "cutmix"])
def test_mixtures_are_learnt_from_the_teacher(
    data: Data, task: Task, make_network: MakeNetwork, step: str, cache: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """It answers for the same mixtures that the student sees; labels, all of them wrong here, are not looked at."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    teacher = make_network(width=8)
    train(teacher, data, task, Recipe(epochs=12, learning_rate=0.01), CONTEXT)
    wrong = ArraySplit(data.train.inputs, np.zeros(120, np.int64))  # type: ignore[attr-defined]
    mixing = replace(data, train=wrong, augmentation=({step: {"probability": 1.0, "alpha": 1.0}},), _prepared={})
    student = make_network(width=4, seed=1, dropout=0.0)
    seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    for name, network in (("student", student), ("teacher", teacher)):
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].detach().clone()))
    losses = [{"kl": {"weight": 0.9}}, {"cross_entropy": {"weight": 0.1}}]
    recipe = Recipe(epochs=20, learning_rate=0.01, batch_size=60)
    distill(student, teacher, mixing, task, recipe, losses, CONTEXT, cache=cache)

    def rows(name: str) -> set[bytes]:
        batches = torch.cat(seen[name]).numpy()
        whole = [np.asarray(split.inputs) for split in (data.train, data.validation)]  # type: ignore[attr-defined]
        return {image.tobytes() for image in batches} - {image.tobytes() for image in np.concatenate(whole)}

    assert rows("student") <= rows("teacher")
    mixtures = 120 * (20 if cache == "off" else 2)
    assert 0.9 * mixtures < len(rows("student")) <= mixtures  # a rectangle may cover nothing
    same = predict(student, data, data.test).argmax(1) == predict(teacher, data, data.test).argmax(1)
    assert same.mean() >= 0.9


def test_values_are_distilled_by_their_squares() -> None:
    generator = np.random.default_rng(0)

    def split(examples: int) -> ArraySplit:
        inputs = generator.normal(size=(examples, 4)).astype(np.float32)
        return ArraySplit(inputs, inputs[:, :2] + generator.normal(size=(examples, 2)).astype(np.float32))

    data, task = Data(split(200), split(50), split(50)), open_task(TaskSettings(name="regression"))
    teacher, student = nn.Linear(4, 2), nn.Linear(4, 2)
    distill(student, teacher, data, task, Recipe(epochs=30, learning_rate=0.05, keep="last"), ["mse"], CONTEXT)
    torch.testing.assert_close(student.weight, teacher.weight, rtol=0, atol=2e-2)


def test_default_terms_follow_the_task(task: Task) -> None:
    values = open_task(TaskSettings(name="regression"))
    assert [(term.name, term.settings.weight) for term in default_losses(task)] == [("kl", 0.9), ("task", 0.1)]
    assert [(term.name, term.settings.weight) for term in default_losses(values)] == [("mse", 1.0), ("task", 1.0)]
    assert chosen_losses(None, task) == default_losses(task)
    assert chosen_losses([{"mse": {}}, LossTerm.model_validate("kl")], task)[0].name == "mse"
    with pytest.raises(UsageError, match="cross_entropy need classes"):
        chosen_losses(["mse", "cross_entropy"], values)


def test_teachers_that_answer_something_else_are_refused(data: Data, task: Task, make_network: MakeNetwork) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    with pytest.raises(UsageError, match=r"teacher's output has shape \(5,\)"):
        distill(make_network(), teacher, data, task, Recipe(epochs=1), context=CONTEXT)


@pytest.mark.parametrize("teachers", [1, 2])
def test_teachers_are_put_into_evaluation_mode_and_left_as_they_are(
    data: Data, task: Task, make_network: MakeNetwork, teachers: int
) -> None:
    """In every form of teaching: live and kept answers, one and several, losses that look inside."""
    networks = [make_network(width=8, seed=5 + number).train() for number in range(teachers)]
    before = [state(network) for network in networks]
    forms: list[Any] = [["kl"], ["kl", "task"]]
    if teachers == 1:
        forms.append(["hint", "rkd", "similarity", "attention_transfer"])
    caches: tuple[Any, ...] = ("off", "auto")
    for losses in forms:
        for cache in caches:
            student = make_network(seed=1)
            voices = [Voice(network, weight=number + 1.0) for number, network in enumerate(networks)]
            distill(student, voices, data, task, Recipe(epochs=2), losses, CONTEXT, cache=cache)
            assert not torch.equal(student.get_parameter("0.weight"), make_network(seed=1).get_parameter("0.weight"))
    for network, kept in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
        assert not any(part.training for part in network.modules())
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not any(part._forward_hooks for part in network.modules())


def test_losses_that_look_inside_are_refused_where_they_cannot(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    voices, recipe = [Voice(make_network()), Voice(make_network(seed=1))], Recipe(epochs=1)
    with pytest.raises(UsageError, match="losses: hint, rkd look inside of one teacher, and there are 2"):
        distill(make_network(), voices, data, task, recipe, ["kl", "hint", "rkd"], CONTEXT)
    with pytest.raises(UsageError, match="hint look inside of the student, which is not possible in int8 training"):
        method_for(make_network(), make_network(), data, task, recipe, ["hint"], CONTEXT, inside=False)


def test_contrast_knows_the_classes_of_all_examples(data: Data, task: Task, make_network: MakeNetwork) -> None:
    losses = [{"crd": {"negatives": 50, "width": 4}}]
    bank: Any = method_for(make_network(), make_network(), data, task, Recipe(epochs=1), losses, CONTEXT).terms[0].bank
    targets = torch.from_numpy(data.train.targets(np.arange(120)))
    drawn = bank.others.draw(torch.arange(120), 50, 0)
    assert (targets[drawn] != targets[:, None]).all()
    assert bank.student_bank.shape == (120, 4)
    unlabelled = replace(data, train=ArraySplit(np.stack(data.train.raw(np.arange(120))), np.full(120, -1)))
    bank = method_for(make_network(), make_network(), unlabelled, task, Recipe(epochs=1), losses, CONTEXT).terms[0].bank
    drawn = bank.others.draw(torch.arange(120), 50, 0)
    assert (drawn != torch.arange(120)[:, None]).all()


def test_a_rehearsal_tries_every_loss_and_keeps_nothing(
    data: Data, task: Task, make_network: MakeNetwork, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    losses: list[Any] = ["kl", "hint", {"crd": {"negatives": 5, "width": 4}}, "pkt", "task"]
    rehearsal = replace(CONTEXT, rehearsal=True)
    log = distill(make_network(), make_network(width=8), data, task, Recipe(epochs=30), losses, rehearsal)
    assert log.steps == 2
    assert list(tmp_path.iterdir()) == []
