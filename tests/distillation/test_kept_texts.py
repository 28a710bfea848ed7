"""A teacher's answers to texts from disk: what is learnt from them is what the teacher itself would teach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import Batch, Data
from compress.distillation.distill import distill
from compress.distillation.method import Distillation
from compress.distillation.teacher import VIEW_SEED, CachedTeacher, Teacher
from compress.distillation.teacher_settings import Cache
from compress.errors import UsageError
from compress.generation.responses import Response, prompts_of
from compress.generation.step_by_step import Weighed, learning_texts
from compress.stage import Context
from compress.training.settings import Recipe
from compress.training.stage import Train
from tests.distillation.networks import task_of
from tests.distillation.texts import TASKS, at, batch_of, logits_of, method, network, texts, top_kl_by_hand

IGNORED = -100


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    yield


def pair(kind: str, folder: Path) -> tuple[Data, nn.Module, nn.Module]:
    data = texts(kind, folder)
    return data, network(kind, data, 1), network(kind, data, 2)


def kept(found: Distillation) -> CachedTeacher:
    assert isinstance(found.teacher, CachedTeacher)
    return found.teacher


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(("k", "temperature", "positions"), [(1, 1.0, "targets"), (4, 2.0, "targets"), (3, 1.0, "all")])
def test_the_loss_is_its_definition_on_the_live_teachers_logits(
    kind: str, k: int, temperature: float, positions: str, tmp_path: Path
) -> None:
    data, student, teacher = pair(kind, tmp_path)
    losses = [{"kl": {"temperature": temperature, "positions": positions, "weight": 0.5}}]
    found = method(kind, student, teacher, data, losses, Cache(views=1, top=k))
    assert kept(found).temperature == temperature
    batch = batch_of(data, [7, 20, 3, 11])
    counted = (batch.targets != IGNORED).numpy()
    if positions == "all" and kind != "answers":  # a decoder's padding is where it has no target
        counted = batch.inputs[1].bool().numpy()
    assert 0 < counted.sum() < counted.size or (kind in ("blocks", "masked") and positions == "all")
    expected = 0.5 * top_kl_by_hand(logits_of(student, batch), logits_of(teacher, batch), counted, k, temperature)
    assert found.loss(student, batch, at(0)).item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("kind", TASKS)
def test_with_all_tokens_it_is_the_whole_divergence(kind: str, tmp_path: Path) -> None:
    data, student, teacher = pair(kind, tmp_path)
    losses = [{"kl": {"temperature": 2}}, {"task": {"weight": 0.3}}]
    batch = batch_of(data, [1, 2, 3, 20])
    found = method(kind, student, teacher, data, losses, Cache(views=1, top=1000))
    live = method(kind, student, teacher, data, losses, "off")
    assert type(live.teacher) is Teacher
    assert isinstance(found.teacher, CachedTeacher)
    values, gradients = [], []
    for one in (found, live):
        student.zero_grad()
        loss = one.loss(student, batch, at(0))
        loss.backward()  # type: ignore[no-untyped-call]
        values.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
    assert values[0] == pytest.approx(values[1], rel=2e-3)
    assert (gradients[0] - gradients[1]).norm() < 5e-3 * gradients[1].norm()


@pytest.mark.parametrize("kind", ["documents", "instructions", "answers"])
def test_padding_and_prompts_count_for_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the kept answers where nothing is learnt, and whatever else is in the batch."""
    data, student, teacher = pair(kind, tmp_path)
    found = method(kind, student, teacher, data, ["kl"], Cache(views=1, top=4))
    lengths = [int((batch_of(data, [n]).targets != IGNORED).sum()) for n in range(20)]
    shortest, longest = int(np.argmin(lengths)), int(np.argmax(lengths))
    assert lengths[shortest] < lengths[longest]
    batch = batch_of(data, [shortest, longest, 5])
    whole = found.loss(student, batch, at(0)).item()
    parts = [(found.loss(student, batch_of(data, [n]), at(0)).item(), lengths[n]) for n in (shortest, longest, 5)]
    assert whole == pytest.approx(sum(loss * n for loss, n in parts) / sum(n for _, n in parts), rel=1e-4)
    answers = kept(found).cache.answers

    def spoilt(indices: Any, view: int) -> dict[str, Any]:
        arrays = answers(indices, view)
        there = (batch.targets != IGNORED).numpy()
        nothing = np.ones(arrays["log_rest"].shape, bool)
        nothing[:, : there.shape[1]] = ~there
        for array in arrays.values():
            array[nothing] = 3
        return arrays

    monkeypatch.setattr(kept(found).cache, "answers", spoilt)
    assert found.loss(student, batch, at(0)).item() == whole


def test_every_epoch_sees_the_masks_that_the_teacher_answered(tmp_path: Path) -> None:
    data, student, teacher = pair("masked", tmp_path)
    found = method("masked", student, teacher, data, [{"kl": {"temperature": 1}}], Cache(views=3, top=4))
    assert [found.augmentation(9, epoch) for epoch in range(5)] == [(VIEW_SEED, view) for view in (0, 1, 2, 0, 1)]
    rows = [4, 9, 17]
    batches = [batch_of(data, rows, found.augmentation(9, epoch)) for epoch in range(4)]
    assert torch.equal(batches[0].inputs[0], batches[3].inputs[0])
    assert not torch.equal(batches[0].inputs[0], batches[1].inputs[0])
    for epoch, batch in enumerate(batches):
        counted = (batch.targets != IGNORED).numpy()
        hand = [
            top_kl_by_hand(logits_of(student, batch), logits_of(teacher, other), counted, 4, 1.0)
            for other in (batch, batches[(epoch + 1) % 3])
        ]
        assert found.loss(student, batch, at(epoch)).item() == pytest.approx(hand[0], rel=2e-3)
        assert abs(hand[0] - hand[1]) > 0.05 * hand[0]


def test_training_shows_the_student_the_views_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, student, teacher = pair("masked", tmp_path)
    asked: list[tuple[int, int] | None] = []
    batch = Data.batch

    def spied(self: Data, split: Any, indices: Any, augment: tuple[int, int] | None = None) -> Batch:
        if split is data.train and len(indices) > 16:  # not the teacher's own passes
            asked.append(augment)
        return batch(self, split, indices, augment)

    monkeypatch.setattr(Data, "batch", spied)
    count = len(data.train)
    recipe = Recipe(epochs=5, batch_size=count, learning_rate=0.001)
    context = Context(device="cpu", threads=1, seed=7)
    distill(student, teacher, data, task_of("masked-lm"), recipe, ["kl"], context, cache=Cache(views=2))
    assert asked == [(VIEW_SEED, epoch % 2) for epoch in range(5)]
    asked.clear()
    distill(student, teacher, data, task_of("masked-lm"), recipe, ["kl"], context, cache="off")
    assert asked == [(7, epoch) for epoch in range(5)]


@pytest.mark.parametrize("kind", ["blocks", "masked"])
def test_a_student_comes_near_its_teacher_by_kept_answers_alone(kind: str, tmp_path: Path) -> None:
    data, student, teacher = pair(kind, tmp_path)
    batch = batch_of(data, list(range(len(data.train))), None)
    counted = (batch.targets != IGNORED).numpy()
    vocabulary = logits_of(teacher, batch).shape[-1]
    theirs = logits_of(teacher, batch)
    before = top_kl_by_hand(logits_of(student, batch), theirs, counted, vocabulary, 1.0)
    recipe = Recipe(epochs=8, batch_size=8, learning_rate=0.01, optimizer="adamw", keep="last")
    losses = [{"kl": {"temperature": 1}}]
    cache, context = Cache(views=2, top=4), Context(device="cpu", threads=1)
    distill(student, teacher, data, task_of(TASKS[kind]), recipe, losses, context, cache=cache)
    assert top_kl_by_hand(logits_of(student, batch), theirs, counted, vocabulary, 1.0) < 0.7 * before


def test_a_batch_that_is_taken_apart_keeps_its_answers(tmp_path: Path) -> None:
    """Rationales weighed beside answers: each part of a batch asks for its own rows, in the width of the whole."""
    plain, student, teacher = pair("instructions", tmp_path)
    prompts = prompts_of(plain)
    written = [Response(n, prompts[n], "ab"[: 1 + n % 2], rationale="abc d"[: 2 + n % 4]) for n in range(12)]
    data, around = learning_texts(plain, written, Train(on="x", rationale_weight=0.3, rationale_prefix="f "))
    assert around is not None
    losses = [{"kl": {"temperature": 1}}]
    found = method("instructions", student, teacher, data, losses, Cache(views=1, top=1000))
    live = method("instructions", student, teacher, data, losses, "off")
    assert len(data.train) == 24
    assert kept(found).cache.examples == 24
    mixed = [3, 15, 0, 23, 20, 12]  # both kinds, in no order
    for rows in (mixed, [1, 2], [14, 22]):
        batch = batch_of(data, rows)
        values = [around(one).loss(student, batch, at(0)).item() for one in (found, live)]
        assert values[0] == pytest.approx(values[1], rel=2e-3)
    weighed = around(found)
    assert isinstance(weighed, Weighed)
    parts = [(batch_of(data, [n for n in mixed if (n >= 12) == why]), weight) for why, weight in ((0, 1.0), (1, 0.3))]
    assert len({part.targets.shape[1] for part, _ in parts}) == 2  # one of them is narrower by itself
    shares = [len(part.indices) / len(mixed) for part, _ in parts]
    expected = sum(
        weight * share * found.loss(student, part, at(0)).item()
        for (part, weight), share in zip(parts, shares, strict=True)
    )
    assert weighed.loss(student, batch_of(data, mixed), at(0)).item() == pytest.approx(expected, rel=1e-4)


class Forbids(nn.Module):
    """Says of some tokens that they cannot be."""

    def __init__(self, inner: nn.Module, value: float) -> None:
        super().__init__()
        self.inner, self.value = inner, value

    def forward(self, *inputs: Tensor) -> Tensor:
        logits = self.inner(*inputs).clone()
        logits[..., :5] = self.value
        return cast(Tensor, logits)


@pytest.mark.parametrize("value", [torch.finfo(torch.float32).min, -float("inf")])
def test_tokens_that_a_teacher_forbids_teach_no_nan(value: float, tmp_path: Path) -> None:
    data, student, teacher = pair("blocks", tmp_path)
    forbidding = Forbids(teacher, value)
    found = method("blocks", student, forbidding, data, [{"kl": {"temperature": 1}}], Cache(views=1, top=1000))
    batch = batch_of(data, [1, 2])
    counted = (batch.targets != IGNORED).numpy()
    theirs = logits_of(teacher, batch)
    theirs[..., :5] = -1e9
    expected = top_kl_by_hand(logits_of(student, batch), theirs, counted, theirs.shape[-1], 1.0)
    assert found.loss(student, batch, at(0)).item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("cache", ["off", Cache(views=1, top=4)])
@pytest.mark.parametrize("more", [-3, 5])
def test_another_vocabulary_is_refused_live_and_kept(cache: Any, more: int, tmp_path: Path) -> None:
    data, _, teacher = pair("blocks", tmp_path)
    assert data.text is not None
    size = data.text.vocabulary_size
    student = network("blocks", data, 2, vocab_size=size + more)
    batch = batch_of(data, [1, 2])
    batch = replace(batch, inputs=(batch.inputs[0].clamp_max(size - 4), batch.inputs[1]))
    found = method("blocks", network("blocks", data, 2), teacher, data, ["kl"], cache)
    with pytest.raises(UsageError, match=f"the teacher's vocabulary has {size} tokens, the student's {size + more}"):
        found.loss(student, batch, at(0))
