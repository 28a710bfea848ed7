from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import ArraySplit, Data
from compress.distillation.distill import Voice, distill, method_for
from compress.distillation.ensemble import Ensemble, MovingAverage, OlderSelf, averaged
from compress.distillation.method import Distillation
from compress.distillation.outputs import Seen
from compress.distillation.teacher import CachedTeacher, Teacher
from compress.distillation.teacher_settings import Cache, OwnPast
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.fit import fit
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.settings import Recipe

MakeNetwork = Callable[..., nn.Sequential]
CONTEXT = Context(threads=1)
HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
RECIPE = Recipe(epochs=4, batch_size=40)
Average = Literal["probabilities", "logits"]


class Says(Teacher):
    """Gives the same logits whatever it is asked."""

    def __init__(self, logits: Tensor, views: int | None = None) -> None:
        self.logits, self.views = logits, views

    def __call__(self, batch: TorchBatch, points: Sequence[str], progress: TrainingProgress) -> Seen:
        return Seen(self.logits)

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        return (seed, epoch) if self.views is None else (0, epoch % self.views)


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: np.ndarray[Any, Any] = powers / powers.sum(1, keepdims=True)
    return shares


LOGITS = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
TARGETS = torch.tensor([0, 1, 2, 3, -1])


def asked(
    weights: list[float], domains: list[list[int] | None], average: Average, targets: Tensor = TARGETS
) -> np.ndarray[Any, Any]:
    bounds = [None if domain is None else torch.tensor(domain) for domain in domains]
    ensemble = Ensemble([Says(one) for one in LOGITS[: len(weights)]], weights, bounds, average)
    seen = ensemble(TorchBatch((LOGITS[0],), targets, torch.arange(5)), (), HERE)
    assert seen is not None
    return seen.logits.numpy()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 5.0]])
def test_teachers_are_averaged_by_their_weights(weights: list[float]) -> None:
    shares, answers = np.array(weights)[:, None, None] / np.sum(weights), LOGITS.double().numpy()
    nobody: list[list[int] | None] = [None] * 3
    np.testing.assert_allclose(asked(weights, nobody, "logits"), (shares * answers).sum(0), rtol=1e-5, atol=1e-6)
    expected = (shares * np.stack([softmax(one) for one in answers])).sum(0)
    np.testing.assert_allclose(np.exp(asked(weights, nobody, "probabilities")), expected, rtol=1e-5)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_teachers_are_heard_on_their_domains_alone(average: Average) -> None:
    found = asked([1.0, 3.0, 2.0], [[0, 1], [1, 2], [2]], average)
    # Class 0: the first; 1: the first and second; 2: the second and third; 3 (nobody's) and unlabelled: all.
    heard = np.array([[1, 0, 0], [1, 3, 0], [0, 3, 2], [1, 3, 2], [1, 3, 2]], dtype=np.float64)
    shares = heard / heard.sum(1, keepdims=True)
    answers = LOGITS.double().numpy()
    said = answers if average == "logits" else np.stack([softmax(one) for one in answers])
    expected = np.einsum("et,tec->ec", shares, said)
    np.testing.assert_allclose(found if average == "logits" else np.exp(found), expected, rtol=1e-5, atol=1e-6)


def test_one_teacher_alone_is_heard_as_it_is() -> None:
    np.testing.assert_allclose(asked([2.0], [None], "logits"), LOGITS[0].numpy(), rtol=1e-6)
    found = asked([2.0], [None], "probabilities")
    np.testing.assert_allclose(np.exp(found), softmax(LOGITS[0].double().numpy()), rtol=1e-5)


def test_answers_to_tokens_are_averaged_over_the_vocabulary() -> None:
    answers = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    ensemble = Ensemble([Says(one) for one in answers], [1.0, 3.0], [None, None], "probabilities", class_axis=-1)
    seen = ensemble(TorchBatch((answers[0],), torch.zeros(3, 4, dtype=torch.int64), torch.arange(3)), (), HERE)
    assert seen is not None
    said = [softmax(one.double().numpy().reshape(12, 6)) for one in answers]
    np.testing.assert_allclose(seen.logits.exp().numpy().reshape(12, 6), 0.25 * said[0] + 0.75 * said[1], rtol=1e-5)


@pytest.mark.parametrize("name", ["regression", "multi-label-classification"])
def test_values_of_several_teachers_are_averaged_as_they_are(name: str) -> None:
    generator, given = np.random.default_rng(0), open_task(TaskSettings(name=name))
    inputs = generator.normal(size=(40, 4)).astype(np.float32)
    split = ArraySplit(inputs, generator.integers(0, 2, (40, 3)).astype(np.float32))
    voices = [Voice(nn.Linear(4, 3), weight) for weight in (1.0, 3.0)]
    method = method_for(nn.Linear(4, 3), voices, Data(split, split, split), given, Recipe(epochs=1), None, CONTEXT)
    asked = torch.from_numpy(inputs[:5])
    seen = method.teacher(TorchBatch((asked,), torch.zeros(5, 3), torch.arange(5)), (), HERE)
    assert seen is not None
    said = [voice.module(asked).detach().double().numpy() for voice in voices]
    np.testing.assert_allclose(seen.logits.numpy(), 0.25 * said[0] + 0.75 * said[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match=f"the task {name} has values: write `average: logits`"):
        averaged("probabilities", given)
    assert averaged("logits", given) == "logits"


def test_classes_are_averaged_as_probabilities_unless_asked_otherwise(task: Task) -> None:
    assert [averaged(None, task), averaged("probabilities", task), averaged("logits", task)] == [
        "probabilities", "probabilities", "logits"
    ]  # fmt: skip


def test_domains_need_one_class_for_each_example() -> None:
    with pytest.raises(UsageError, match=r"teacher\.classes: examples of this task are not each of one class"):
        asked([1.0, 1.0], [[0], None], "logits", targets=torch.zeros(5, 2, dtype=torch.int64))


def test_all_teachers_see_the_views_that_some_have_kept() -> None:
    live, kept = Says(LOGITS[0]), Says(LOGITS[1], views=3)
    for teachers in ([live, kept], [kept, live]):
        ensemble = Ensemble(teachers, [1, 1], [None, None], "logits")
        assert [ensemble.augmentation(7, epoch) for epoch in range(4)] == [(0, 0), (0, 1), (0, 2), (0, 0)]
    assert Ensemble([live, live], [1, 1], [None, None], "logits").augmentation(7, 2) == (7, 2)


def test_a_kept_and_a_live_teacher_answer_to_the_same_examples(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    """The cheap teacher is asked live, the dear one is kept."""
    augmented = replace(data, augmentation=({"flip": {}},))
    voices = [Voice(nn.Sequential(nn.Flatten(), nn.Linear(36, 3))), Voice(make_network(width=64))]
    student, recipe = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), Recipe(epochs=40)
    method = method_for(student, voices, augmented, task, recipe, ["kl"], CONTEXT, cache=Cache())
    assert isinstance(method.teacher, Ensemble)
    assert [type(teacher) for teacher in method.teacher.teachers] == [Teacher, CachedTeacher]
    assert method.augmentation(5, 17) == (0, 1)


def test_a_student_learns_what_two_teachers_know(data: Data, task: Task, make_network: MakeNetwork) -> None:
    """Each has seen only one of two classes; together, by their domains, they know both."""
    voices = []
    for number, domain in enumerate([(0, 1), (2,)]):
        layer = nn.Linear(36, 3)
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([5.0, 0, 0] if number == 0 else [0, 0, 5.0]))
        voices.append(Voice(nn.Sequential(nn.Flatten(), layer), domain=domain))
    student = make_network(seed=1, dropout=0.0)
    recipe = Recipe(epochs=20, learning_rate=0.01, keep="last")
    distill(student, voices, data, task, recipe, [{"kl": {"temperature": 1}}], CONTEXT)
    batch = data.batch(data.test, np.arange(60))
    with torch.no_grad():
        found = student(torch.from_numpy(batch.inputs[0])).argmax(1).numpy()
    assert (found == np.where(batch.targets == 2, 2, 0)).mean() > 0.9


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def test_a_moving_average_follows_the_student(make_network: MakeNetwork) -> None:
    student = make_network()
    teacher = MovingAverage(student, decay=0.6)
    assert teacher.module is not None
    hand = {name: tensor.double().numpy() for name, tensor in snapshot(student).items()}
    for step in range(8):
        for parameter in student.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        student.train()(torch.randn(4, 1, 6, 6))
        teacher.before_step(student, TrainingProgress(0, step, 8, 0))
        decay = min(0.6, (1 + step) / (10 + step))
        for name, tensor in student.named_parameters():
            hand[name] = decay * hand[name] + (1 - decay) * tensor.detach().double().numpy()
    for name, tensor in teacher.module.named_parameters():
        np.testing.assert_allclose(tensor.numpy(), hand[name], rtol=1e-5, atol=1e-6)
    for name, buffer in teacher.module.named_buffers():
        assert torch.equal(buffer, student.get_buffer(name))
    assert not any(part.training for part in teacher.module.modules())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_an_older_self_answers_as_the_student_did_so_many_epochs_ago(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    student = make_network()
    method = method_for(student, OwnPast(past=2), data, task, RECIPE, ["kl", "task"], CONTEXT)
    older, past = method.teacher, dict[int, dict[str, Tensor]]()
    heard: list[int] = []

    class Spy(Distillation):
        def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
            if progress.epoch not in past:
                past[progress.epoch] = snapshot(model)
            seen = older(batch, (), progress)
            if progress.epoch < 2:
                assert seen is None
            else:
                assert seen is not None
                reference = make_network()
                reference.load_state_dict(past[progress.epoch - 2])
                with torch.no_grad():
                    torch.testing.assert_close(seen.logits, reference.eval()(*batch.inputs), rtol=0, atol=0)
                heard.append(progress.epoch)
            return super().loss(model, batch, progress)

    fit(student, data, task, Spy(older, method.terms, task), RECIPE, context=CONTEXT)
    assert heard == [2] * 3 + [3] * 3
    assert isinstance(older, OlderSelf)
    assert sorted(older.kept) == [1, 2, 3]


class Stop(Exception):
    pass


@pytest.mark.parametrize("past", [OwnPast(ema=0.9), OwnPast(past=1), OwnPast(past=2)])
@pytest.mark.parametrize("stop", [1, 5, 6, 8])
def test_the_students_own_past_goes_on_from_a_checkpoint_to_the_same_bits(
    past: OwnPast, stop: int, data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    losses: list[Any] = [{"kl": {"temperature": 2}}, "task"]
    whole = make_network()
    expected = distill(whole, past, data, task, RECIPE, losses, CONTEXT)
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    context = replace(CONTEXT, checkpoints=tmp_path)

    def interrupted(self: Any, progress: TrainingProgress) -> None:
        if progress.step == stop:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Distillation, "after_step", interrupted)
        distill(make_network(), past, data, task, RECIPE, losses, context)
    assert list(tmp_path.iterdir())
    network = make_network()
    log = distill(network, past, data, task, RECIPE, losses, context)
    assert replace(log, seconds=0) == replace(expected, seconds=0)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_a_past_teacher_changes_what_is_learnt(data: Data, task: Task, make_network: MakeNetwork) -> None:
    states = []
    for past in (OwnPast(past=1), OwnPast(past=4)):
        student = make_network()
        distill(student, past, data, task, RECIPE, ["kl", "task"], CONTEXT)
        states.append(snapshot(student))
    assert not torch.equal(states[0]["5.weight"], states[1]["5.weight"])


def test_a_past_teacher_needs_labels_for_the_first_epochs(data: Data, task: Task, make_network: MakeNetwork) -> None:
    with pytest.raises(UsageError, match="learns from its past needs the labels as well: add `task`"):
        distill(make_network(), OwnPast(past=1), data, task, RECIPE, ["kl"], CONTEXT)
    student = copy.deepcopy(make_network())
    distill(student, OwnPast(ema=0.5), data, task, RECIPE, ["kl"], CONTEXT)
