from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.training.checkpoint import (
    CHECKPOINT_SECONDS,
    Checkpoint,
    CheckpointClock,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from compress.training.optimizer import make_optimizer
from compress.training.settings import Recipe

WHOSE = {"seed": 0}


def checkpoint(step: int, value: float = 1.0) -> Checkpoint:
    return Checkpoint(step, WHOSE, {"note": "a"}, {"w": torch.full((3,), value), "empty": torch.empty(0)})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(7, 1 / 3))
    found = load_checkpoint(tmp_path, WHOSE)
    assert found is not None
    assert (found.step, found.identity, found.values) == (7, WHOSE, {"note": "a"})
    assert torch.equal(found.tensors["w"], torch.full((3,), 1 / 3))
    assert found.tensors["empty"].shape == (0,)


def test_nothing_is_found_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, WHOSE) is None
    assert load_checkpoint(tmp_path / "missing", WHOSE) is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(int(path.name.removeprefix("step-")) for path in tmp_path.iterdir()) == [20, 100]


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_a_torn_checkpoint_gives_way_to_the_one_before(tmp_path: Path, file: str) -> None:
    save_checkpoint(tmp_path, checkpoint(1, 1.0))
    save_checkpoint(tmp_path, checkpoint(2, 2.0))
    newest = max(tmp_path.iterdir()) / file
    newest.write_bytes(newest.read_bytes()[:-10] + bytes(10))
    found = load_checkpoint(tmp_path, WHOSE)
    assert found is not None
    assert found.step == 1


def test_a_draft_left_by_a_kill_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "draft-1234").mkdir()
    save_checkpoint(tmp_path, checkpoint(1))
    assert load_checkpoint(tmp_path, WHOSE) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000001"]


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    with pytest.raises(UsageError, match="another training"):
        load_checkpoint(tmp_path, {"seed": 1})


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors = {"a": whole, "b": whole, "part": whole[2:4], "turned": whole.view(2, 3).t()}
    save_checkpoint(tmp_path, Checkpoint(1, WHOSE, {}, tensors))
    found = load_checkpoint(tmp_path, WHOSE)
    assert found is not None
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_optimizer_goes_on_in_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    recipe = Recipe.model_validate({"optimizer": optimizer})

    def steps(module: nn.Linear, made: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            made.zero_grad()
            module(torch.ones(2, 3)).square().sum().backward()
            made.step()

    torch.manual_seed(0)
    whole = nn.Linear(3, 3)
    first = nn.Linear(3, 3)
    first.load_state_dict(whole.state_dict())
    steps(whole, make_optimizer(whole.parameters(), recipe), 6)
    before = make_optimizer(first.parameters(), recipe)
    steps(first, before, 3)
    save_checkpoint(tmp_path, Checkpoint(3, WHOSE, {}, optimizer_tensors(before)))
    loaded = load_checkpoint(tmp_path, WHOSE)
    assert loaded is not None
    after = make_optimizer(first.parameters(), recipe)
    restore_optimizer(after, loaded.tensors)
    steps(first, after, 3)
    assert torch.equal(first.weight, whole.weight)


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not CheckpointClock().is_due()
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    assert CheckpointClock().is_due()
    clock = CheckpointClock(seconds=20.0, _last=-1e9)
    assert clock.is_due()
    clock.restart()
    assert not clock.is_due(epoch_end=True)
