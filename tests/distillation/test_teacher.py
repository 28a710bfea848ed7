from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import ArraySplit, Batch, Data
from compress.distillation.cache import AnswerCache
from compress.distillation.distill import distill, method_for
from compress.distillation.teacher import VIEW_SEED, CachedTeacher, Teacher, answer_computer
from compress.distillation.teacher_settings import Cache
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import to_torch
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.settings import Recipe
from tests.distillation.networks import task_of

MakeNetwork = Callable[..., nn.Sequential]
CONTEXT = Context(threads=1)
CPU = torch.device("cpu")
FLIP: tuple[dict[str, Any], ...] = ({"flip": {}},)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    yield


def at(epoch: int, seed: int = 0) -> TrainingProgress:
    return TrainingProgress(epoch=epoch, step=10 * epoch, steps=400, seed=seed)


def some(data: Data, augment: tuple[int, int] | None = None) -> TorchBatch:
    return to_torch(data.batch(data.train, np.array([5, 3, 77]), augment=augment), CPU)


def opened(network: nn.Module, data: Data, task: Task, cache: Any, epochs: int = 40, context: Context = CONTEXT,
           losses: Any = ("kl",), student: nn.Module | None = None) -> Teacher:  # fmt: skip
    student = student or nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    return method_for(student, network, data, task, Recipe(epochs=epochs), losses, context, cache=cache).teacher


def logits(teacher: Teacher, batch: TorchBatch, epoch: int = 0) -> Tensor:
    seen = teacher(batch, (), at(epoch))
    assert seen is not None
    return seen.logits


def test_a_teacher_answers_in_evaluation_mode_without_gradients(data: Data, make_network: MakeNetwork) -> None:
    network, batch = make_network().train(), some(data)
    teacher = Teacher(network)
    seen = teacher(batch, ("0",), at(0))
    assert seen is not None
    assert not network.training
    torch.testing.assert_close(seen.logits, network(*batch.inputs))
    torch.testing.assert_close(seen.points["0"], network[0](*batch.inputs))
    assert not seen.logits.requires_grad
    assert teacher.augmentation(3, 7) == (3, 7)
    assert teacher.state_dict() == {}


def test_kept_answers_are_those_given_live_in_half_precision(data: Data, task: Task, make_network: MakeNetwork) -> None:
    network, batch = make_network(), some(data)
    kept, live = opened(network, data, task, "auto"), opened(network, data, task, "off")
    assert isinstance(kept, CachedTeacher)
    assert type(live) is Teacher
    expected = logits(live, batch).numpy()
    found = logits(kept, batch)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2.0**-11, atol=2.0**-24)
    assert found.dtype == torch.float32
    assert not found.requires_grad


def test_values_are_kept_in_full_precision_however_large() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(80, 4)).astype(np.float32)
    split = ArraySplit(inputs, inputs[:, :2])
    data, network = Data(split, split, split), nn.Linear(4, 2)
    with torch.no_grad():
        network.weight.mul_(1e6)
    kept = opened(network, data, task_of("regression"), "auto", losses=["mse"], student=nn.Linear(4, 2))
    assert isinstance(kept, CachedTeacher)
    batch = some(data)
    torch.testing.assert_close(logits(kept, batch), network(*batch.inputs).detach(), rtol=1e-6, atol=0)


def test_answers_too_large_for_half_precision_are_refused(data: Data, make_network: MakeNetwork) -> None:
    network = make_network().eval()
    with torch.no_grad():
        network.get_parameter("5.weight").mul_(1e7)
    with pytest.raises(UsageError, match=r"too large for torch.float16: write `cache: off`"):
        answer_computer(network, data, CONTEXT, CPU)(0, np.arange(3))


def test_answers_are_computed_in_full_precision_whatever_the_training_does(
    data: Data, make_network: MakeNetwork
) -> None:
    compute = answer_computer(make_network().eval(), data, CONTEXT, CPU, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = compute(0, np.arange(5))["logits"]
    np.testing.assert_array_equal(inside, compute(0, np.arange(5))["logits"])


def test_each_epoch_has_the_view_of_its_number(
    data: Data, task: Task, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student is shown what the teacher answered: a spy sees by which seed and epoch examples are augmented."""
    augmented = replace(data, augmentation=FLIP)
    asked: list[tuple[int, int] | None] = []
    batch = Data.batch

    def spied(self: Data, split: Any, indices: Any, augment: tuple[int, int] | None = None) -> Batch:
        if split is augmented.train and len(indices) > 2:
            asked.append(augment)
        return batch(self, split, indices, augment)

    monkeypatch.setattr(Data, "batch", spied)
    recipe = Recipe(epochs=5, batch_size=120)
    distill(make_network(seed=1), make_network(), augmented, task, recipe, ["kl"], CONTEXT, cache=Cache(views=2))
    # In each epoch the step's batch; before the first steps of the two views the teacher's own pass over all examples.
    first, second = (VIEW_SEED, 0), (VIEW_SEED, 1)
    assert asked == [first, first, second, second, first, second, first]


def test_kept_views_are_the_teachers_answers_to_them(data: Data, task: Task, make_network: MakeNetwork) -> None:
    augmented, network = replace(data, augmentation=FLIP), make_network()
    kept = opened(network, augmented, task, Cache(views=3))
    assert [kept.augmentation(9, epoch) for epoch in range(4)] == [(VIEW_SEED, view) for view in (0, 1, 2, 0)]
    found = []
    for epoch in range(4):
        batch = some(augmented, augment=kept.augmentation(9, epoch))
        with torch.no_grad():
            expected = network(*batch.inputs).numpy()
        found.append(logits(kept, batch, epoch).numpy())
        np.testing.assert_allclose(found[-1], expected, rtol=2.0**-11, atol=2.0**-24)
    assert np.array_equal(found[0], found[3])
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("losses", [["kl"], ["kl", "hint"]])
def test_what_is_not_worth_or_not_possible_to_keep_is_asked_live(
    data: Data, task: Task, make_network: MakeNetwork, losses: list[str]
) -> None:
    student, network, augmented = make_network(seed=1), make_network(width=8), replace(data, augmentation=FLIP)
    assert type(opened(network, augmented, task, "auto", 31, losses=losses, student=student)) is Teacher
    assert type(opened(network, data, task, "auto", 1, losses=losses, student=student)) is Teacher
    views, rehearsal = Cache(views=1), replace(CONTEXT, rehearsal=True)
    assert type(opened(network, data, task, views, context=rehearsal, losses=losses, student=student)) is Teacher
    kept = opened(network, data, task, views, losses=losses, student=student)
    assert isinstance(kept, CachedTeacher) == (losses == ["kl"])


def key(teacher: Teacher) -> str:
    assert isinstance(teacher, CachedTeacher)
    return teacher.cache.key


def test_the_key_follows_teacher_data_and_augmentation_and_not_the_student(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    network, views = make_network(), Cache(views=1)
    usual = key(opened(network, data, task, views))
    same = [
        key(opened(make_network(), data, task, views)),
        key(opened(network, data, task, views, epochs=7)),
        key(opened(network, data, task, views, context=replace(CONTEXT, seed=5))),
        key(opened(network, data, task, views, student=make_network(width=2, seed=8))),
        key(opened(network.train(), data, task, views, losses=[{"mse": {}}])),
    ]
    assert set(same) == {usual}
    other_weights, other_layers = make_network(), make_network()
    with torch.no_grad():
        other_weights.get_parameter("5.bias").add_(1)
    other_layers[2] = nn.GELU()
    others = [
        key(opened(other_weights, data, task, views)),
        key(opened(other_layers, data, task, views)),
        key(opened(network, replace(data, fingerprint="others"), task, views)),
        key(opened(network, replace(data, augmentation=FLIP), task, views)),
        key(opened(network, replace(data, augmentation=({"flip": {"probability": 0.1}},)), task, views)),
        key(opened(network, replace(data, preprocessing=({"scale": 2.0},)), task, views)),
    ]
    assert len({usual, *others}) == 1 + len(others)


def test_data_without_a_fingerprint_are_known_by_their_content(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    network, views, nameless = make_network(), Cache(views=1), replace(data, fingerprint="")
    inputs = np.stack(data.train.raw(np.arange(120)))
    inputs[7, 0, 0, 0] += 1
    changed = ArraySplit(inputs, data.train.targets(np.arange(120)))
    keys = [key(opened(network, one, task, views)) for one in (nameless, nameless, replace(nameless, train=changed))]
    assert keys[0] == keys[1] != keys[2]


def test_a_second_run_computes_nothing(
    data: Data, task: Task, make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, teacher = Recipe(epochs=2), make_network()
    students = [make_network(seed=1), make_network(seed=1)]
    distill(students[0], teacher, data, task, recipe, ["kl"], CONTEXT)

    monkeypatch.setattr(AnswerCache, "_write", lambda *arguments: pytest.fail("computed again"))
    distill(students[1], teacher, data, task, recipe, ["kl"], CONTEXT)
    pairs = zip(students[0].state_dict().values(), students[1].state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_caches_lie_below_the_users_cache_folder(
    data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path
) -> None:
    kept = opened(make_network(), data, task, Cache(views=1))
    assert isinstance(kept, CachedTeacher)
    assert isinstance(kept.cache, AnswerCache)
    assert kept.cache.folder.parent == tmp_path / "cache" / "teachers"
