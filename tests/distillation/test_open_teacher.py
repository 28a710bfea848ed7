from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from compress.data.dataset import Data
from compress.distillation.distill import Voice, method_for
from compress.distillation.ensemble import Ensemble
from compress.distillation.open_teacher import open_teacher
from compress.distillation.teacher import CachedTeacher, Teacher
from compress.distillation.teacher_settings import Cache
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.settings import Recipe
from tests.distillation.texts import Told, at, batch_of, method, network, texts

MakeNetwork = Callable[..., nn.Sequential]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    yield


def context(told: Told | None = None, **more: Any) -> Context:
    return Context(device="cpu", threads=1, progress=told or Told(), **more)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "teachers").rglob("*.npy"))


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        (["kl", "dist"], "of answers to texts the likeliest tokens are kept, which dist cannot use"),
        (["kl", "reverse_kl", {"jsd": {}}], "which jsd, reverse_kl cannot use"),
        ([{"kl": {"temperature": 1}}, {"kl": {"temperature": 2}}], "are kept for one `kl` of one temperature"),
        ([{"kl": {"standardize": True}}], "are kept for one `kl` of one temperature, not standardized"),
        (["task"], "no loss reads the teacher's answers"),
        (["task", "cross_entropy"], "no loss reads the teacher's answers"),
        (["kl", "hidden"], "hidden need the teacher itself at every step"),
    ],
)
def test_what_cannot_be_kept_of_answers_to_texts_is_said(losses: Any, says: str, tmp_path: Path) -> None:
    data, told = texts("blocks", tmp_path), Told()
    student, teacher = network("blocks", data, 1), network("blocks", data, 2)
    found = method("blocks", student, teacher, data, losses, Cache(views=1), context=context(told))
    assert type(found.teacher) is Teacher
    [line] = told.lines
    assert line.startswith("teacher cache: off: ")
    assert says in line
    told.lines.clear()
    found = method("blocks", student, teacher, data, losses, "auto", context=context(told))
    assert type(found.teacher) is Teacher
    assert told.lines == []
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "losses",
    [
        ["kl"],
        ["kl", "task"],
        [{"kl": {"temperature": 3}}, {"kl": {"temperature": 3, "positions": "all", "weight": 0.1}}],
        [{"kl": {"weight": {"first": 1, "last": 0}}}, {"cross_entropy": {"label_smoothing": 0.1}}],
    ],
)
def test_what_can_be_kept_is(losses: Any, tmp_path: Path) -> None:
    data = texts("blocks", tmp_path)
    student, teacher = network("blocks", data, 1), network("blocks", data, 2)
    found = method("blocks", student, teacher, data, losses, Cache(views=1))
    assert isinstance(found.teacher, CachedTeacher)
    assert np.isfinite(found.loss(student, batch_of(data, [0, 1]), at(0)).item())


def test_several_teachers_of_texts_and_rehearsals_keep_nothing(tmp_path: Path) -> None:
    data, told = texts("blocks", tmp_path), Told()
    student, voices = network("blocks", data, 1), [Voice(network("blocks", data, seed)) for seed in (2, 3)]
    found = method("blocks", student, voices, data, ["kl"], Cache(views=1), context=context(told))
    assert isinstance(found.teacher, Ensemble)
    assert {type(teacher) for teacher in found.teacher.teachers} == {Teacher}
    assert told.lines == ["teacher cache: off: answers of several teachers to texts are not kept"] * 2
    told.lines.clear()
    rehearsal = context(told, rehearsal=True)
    found = method("blocks", student, voices[0].module, data, ["kl"], Cache(views=1), context=rehearsal)
    assert type(found.teacher) is Teacher
    assert told.lines == []


@pytest.mark.parametrize(
    ("kind", "epochs", "views", "says"),
    [
        ("blocks", 20, 1, "1 view, "),
        ("documents", 20, 1, "1 view, "),
        ("answers", 20, 1, "1 view, "),
        ("blocks", 1, 0, "too little to give up fresh answers"),
        ("masked", 32, 16, "16 views, "),
        ("masked", 31, 0, "too little to give up fresh answers"),  # every epoch hides other tokens
    ],
)
def test_answers_to_texts_are_kept_where_that_saves_enough(
    kind: str, epochs: int, views: int, says: str, tmp_path: Path
) -> None:
    data, told = texts(kind, tmp_path), Told()
    student, teacher = network(kind, data, 1), network(kind, data, 2, layers=6)
    found = method(kind, student, teacher, data, ["kl"], "auto", epochs=epochs, context=context(told))
    assert (found.teacher.views if isinstance(found.teacher, CachedTeacher) else 0) == views
    assert len(told.lines) == 1
    assert says in told.lines[0]


@pytest.mark.parametrize(("kind", "views"), [("blocks", 1), ("instructions", 1), ("masked", 3), ("answers", 1)])
def test_as_many_bytes_are_written_as_were_counted(kind: str, views: int, tmp_path: Path) -> None:
    data, told = texts(kind, tmp_path), Told()
    student, teacher = network(kind, data, 1), network(kind, data, 2)
    found = method(kind, student, teacher, data, ["kl"], Cache(views=3, top=4), context=context(told))
    for epoch in range(4):
        found.loss(student, batch_of(data, [0, 1], found.augmentation(0, epoch)), at(epoch))
    [counted] = re.findall(r", ([\d,]+) bytes", " ".join(told.lines))
    arrays = [np.load(file) for file in files(tmp_path)]
    assert len(arrays) == 3 * views
    assert sum(array.nbytes for array in arrays) == int(counted.replace(",", ""))
    assert {array.shape[:2] for array in arrays} == {(len(data.train), 12)}
    headers = sum(file.stat().st_size for file in files(tmp_path)) - sum(array.nbytes for array in arrays)
    assert headers == 128 * len(arrays)


def test_more_bytes_than_allowed_are_refused_before_the_teacher_runs(tmp_path: Path) -> None:
    data = texts("blocks", tmp_path)
    student, teacher = network("blocks", data, 1), network("blocks", data, 2)
    size = len(data.train) * 12 * (4 * 6 + 2)
    assert isinstance(
        method("blocks", student, teacher, data, ["kl"], Cache(views=1, top=4, max_bytes=size)).teacher, CachedTeacher
    )
    with pytest.raises(UsageError, match=f"take {size:,} bytes, and only {size - 1:,} are allowed"):
        method("blocks", student, teacher, data, ["kl"], Cache(views=1, top=4, max_bytes=size - 1))
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["indices", "log_probabilities", "log_rest"])
def test_a_flipped_byte_is_found_and_made_anew(name: str, tmp_path: Path) -> None:
    data = texts("documents", tmp_path)
    student, teacher = network("documents", data, 1), network("documents", data, 2)
    batch, losses = batch_of(data, [3, 8, 20]), []
    contents = []
    for _ in range(3):
        found = method("documents", student, teacher, data, ["kl"], Cache(views=1, top=4))
        losses.append(found.loss(student, batch, at(0)).item())
        contents.append({file: file.read_bytes() for file in files(tmp_path)})
        [file] = [file for file in files(tmp_path) if f".{name}." in file.name]
        broken = bytearray(file.read_bytes())
        broken[-300] ^= 64
        file.write_bytes(broken)
    assert losses[0] == losses[1] == losses[2]
    assert contents[0] == contents[1] == contents[2]


def key(kind: str, data: Data, losses: Any, cache: Cache, seed: int = 2) -> str:
    found = method(kind, network(kind, data, 1), network(kind, data, seed), data, losses, cache).teacher
    assert isinstance(found, CachedTeacher)
    return found.cache.key


def test_the_key_follows_what_is_kept_and_not_how_it_is_used(tmp_path: Path) -> None:
    data = texts("blocks", tmp_path)
    usual = key("blocks", data, ["kl"], Cache(views=1, top=4))
    assert key("blocks", data, [{"kl": {"positions": "all", "weight": 2}}, "task"], Cache(views=1, top=4)) == usual
    others = [
        key("blocks", data, [{"kl": {"temperature": 3}}], Cache(views=1, top=4)),
        key("blocks", data, ["kl"], Cache(views=1, top=5)),
        key("blocks", data, ["kl"], Cache(views=1, top=4), seed=3),
        key("blocks", texts("blocks", tmp_path, max_length=8), ["kl"], Cache(views=1, top=4)),
        key("masked", texts("masked", tmp_path), ["kl"], Cache(views=1, top=4)),
        key("blocks", replace(data, fingerprint="other"), ["kl"], Cache(views=1, top=4)),
    ]
    assert len({usual, *others}) == 1 + len(others)
    # A vocabulary of fewer tokens than are asked for is kept whole, under one key.
    assert key("blocks", data, ["kl"], Cache(views=1, top=500)) == key("blocks", data, ["kl"], Cache(views=1, top=999))


def test_labels_alone_leave_augmentation_as_it_is(data: Data, task: Task, make_network: MakeNetwork) -> None:
    """A teacher that labels beforehand need not be asked again, and its views would repeat the same few pictures."""
    augmented, recipe = replace(data, augmentation=({"flip": {}},)), Recipe(epochs=100)
    student, teacher = make_network(2), make_network(16)
    for losses, expected in ((["task"], Teacher), (["kl", "task"], CachedTeacher)):
        found = method_for(student, teacher, augmented, task, recipe, losses, context())
        assert type(found.teacher) is expected
        assert (found.augmentation(3, 20) == (3, 20)) == (expected is Teacher)


def test_a_teacher_is_frozen_and_put_where_the_training_is(data: Data, task: Task, make_network: MakeNetwork) -> None:
    teacher, student = make_network().train(), make_network(2).train()
    found = open_teacher(teacher, student, data, task, Recipe(epochs=3), (), context(), "off")
    assert found.module is teacher
    assert not teacher.training
    assert student.training
