from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.bundle import Deployment
from compress.data.dataset import ArraySplit, Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.distillation.distill import distill
from compress.errors import UsageError
from compress.models import rest
from compress.models.count import count_macs, count_parameters
from compress.models.factory import Factory, build
from compress.pruning.examples import PRACTISED, practice_batches, training_batches
from compress.pruning.importance.measures import Given
from compress.pruning.judge import Judge
from compress.pruning.prune import PruneLog
from compress.pruning.reach import Where
from compress.pruning.recover import describe, prune_and_recover
from compress.pruning.settings import Keep
from compress.pruning.stage import Prune, Recover
from compress.pruning.timing import Timing
from compress.stage import Context, Silent
from compress.targets.settings import TargetSettings
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.evaluate import evaluate
from compress.training.log import FitLog
from compress.training.settings import Recipe
from compress.training.train import train

CONTEXT = Context(device="cpu", threads=1)
SETTINGS = Prune.model_validate({"keep": {"macs": 0.5}, "examples": 64})


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(read_data_settings("digits", Path.cwd()))


@pytest.fixture(scope="module")
def task() -> Task:
    return open_task(TaskSettings())


@pytest.fixture(scope="module")
def trained(data: Data, task: Task) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
            convolutions += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        module = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    train(module, data, task, Recipe(epochs=10), CONTEXT)
    return module


def _accuracy(module: nn.Module, data: Data, task: Task) -> float:
    return float(evaluate(module, data, task, data.validation, context=CONTEXT)["accuracy"])


def test_recovery_wins_back_what_pruning_lost(trained: nn.Module, data: Data, task: Task) -> None:
    pruned = copy.deepcopy(trained)
    done = prune_and_recover(pruned, data, task, SETTINGS, None, CONTEXT)
    recovered = copy.deepcopy(trained)
    again = prune_and_recover(recovered, data, task, SETTINGS, Recover(epochs=6), CONTEXT)
    assert done.recoveries == ()
    assert again.log == done.log
    assert done.log.reached == pytest.approx(0.5, rel=0.05)
    assert [len(recovery.epochs) for recovery in again.recoveries] == [6]
    assert not recovered.training
    before, cut, after = (_accuracy(module, data, task) for module in (trained, pruned, recovered))
    assert cut < after
    assert after >= before - 0.03


def test_the_same_seed_gives_the_same_bytes(trained: nn.Module, data: Data, task: Task) -> None:
    digests = []
    for seed in (0, 0, 1):
        module = copy.deepcopy(trained)
        prune_and_recover(module, data, task, SETTINGS, Recover(epochs=1), replace(CONTEXT, seed=seed))
        digests.append(rest.state_digest(module))
    assert digests[0] == digests[1] != digests[2]


def test_statistics_are_those_of_training_examples(trained: nn.Module, data: Data, task: Task) -> None:
    module = copy.deepcopy(trained)
    prune_and_recover(module, data, task, SETTINGS, None, CONTEXT)
    [(inputs, _)] = training_batches(data, 64, 64, CONTEXT, torch.device("cpu"))
    norm = module[1]  # type: ignore[index]
    assert isinstance(norm.running_mean, Tensor)
    assert torch.allclose(norm.running_mean, module[0](*inputs).mean((0, 2, 3)), atol=1e-5)  # type: ignore[index]


def test_the_global_random_state_is_left_alone(trained: nn.Module, data: Data, task: Task) -> None:
    state = torch.random.get_rng_state()
    prune_and_recover(copy.deepcopy(trained), data, task, SETTINGS, None, CONTEXT)
    assert torch.equal(torch.random.get_rng_state(), state)


@dataclass(frozen=True)
class _Counting:
    """A split that notes which examples were read."""

    split: ArraySplit
    seen: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.split)

    def raw(self, indices: Any) -> list[Any]:
        self.seen.extend(int(index) for index in indices)
        return self.split.raw(indices)

    def targets(self, indices: Any) -> Any:
        return self.split.targets(indices)


def _counting(examples: int) -> tuple[Data, dict[str, _Counting]]:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(examples, 1, 8, 8)).astype(np.float32)
    splits = {
        name: _Counting(ArraySplit(images, generator.integers(0, 10, examples)))
        for name in ("train", "validation", "test")
    }
    return Data(splits["train"], splits["validation"], splits["test"]), splits


def test_rehearsal_reads_two_batches_and_no_test_data(trained: nn.Module, task: Task) -> None:
    data, splits = _counting(100)
    rehearsal = replace(CONTEXT, rehearsal=True)
    prune_and_recover(copy.deepcopy(trained), data, task, SETTINGS, None, rehearsal)
    assert len(set(splits["train"].seen) - {0}) <= 8
    assert splits["validation"].seen == splits["test"].seen == []


def test_batches_are_of_one_size_seeded_and_no_example_comes_twice() -> None:
    data, splits = _counting(50)
    batches = training_batches(data, 40, 16, CONTEXT, torch.device("cpu"))
    assert [len(targets) for _, targets in batches] == [16, 16]
    read = splits["train"].seen
    assert len(training_batches(data, 1000, 64, CONTEXT, torch.device("cpu"))[0][1]) == 50
    assert len(set(read)) >= 32
    other = training_batches(data, 40, 16, replace(CONTEXT, seed=1), torch.device("cpu"))
    assert not torch.equal(other[0][0][0], batches[0][0][0])


def test_choices_practise_on_more_of_the_same_examples_as_far_as_memory_allows(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cpu")
    batches = training_batches(data, 40, 8, CONTEXT, device)
    more = practice_batches(data, batches, CONTEXT, device)
    assert sum(len(targets) for _, targets in more) == min(PRACTISED, len(data.train)) // 8 * 8 > 40
    assert all(torch.equal(one[1], other[1]) for one, other in zip(batches, more, strict=False))
    each = batches[0][0][0][0].numel() * 4
    monkeypatch.setattr("compress.pruning.examples.PRACTISED_BYTES", 99 * each)
    assert sum(len(targets) for _, targets in practice_batches(data, batches, CONTEXT, device)) == 96
    monkeypatch.setattr("compress.pruning.examples.PRACTISED_BYTES", 39 * each)
    assert practice_batches(data, batches, CONTEXT, device) is batches
    assert practice_batches(data, batches, replace(CONTEXT, rehearsal=True), device) is batches


@pytest.mark.parametrize(("recipe", "precision"), [(None, "fp32"), (Recover(precision="bf16"), "bf16")])
def test_choices_are_judged_in_the_precision_of_what_comes_after(
    trained: nn.Module, data: Data, task: Task, monkeypatch: pytest.MonkeyPatch, recipe: Recover | None, precision: str
) -> None:
    seen = []

    def prune(module: Any, example: Any, settings: Any, given: Given, *others: Any, **more: Any) -> None:
        seen.append(given.precision)
        raise UsageError("seen")

    monkeypatch.setattr("compress.pruning.recover.prune_with_blocks", prune)
    settings = Prune.model_validate({"keep": {"macs": 0.5}, "depth": True})
    with pytest.raises(UsageError, match="seen"):
        prune_and_recover(copy.deepcopy(trained), data, task, settings, recipe, CONTEXT)
    assert seen == [precision]


def test_no_examples_are_refused(trained: nn.Module, task: Task) -> None:
    data, _ = _counting(5)
    empty = replace(data, train=ArraySplit(np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, np.int64)))
    with pytest.raises(UsageError, match="training split is empty"):
        prune_and_recover(copy.deepcopy(trained), empty, task, SETTINGS, None, CONTEXT)


SMALL = Prune.model_validate(
    {
        "keep": {"macs": 0.4}, "importance": "magnitude", "round_to": 1, "examples": 16, "iterations": 2,
        "sparse": {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "weight": 0.01},
    }
)  # fmt: skip
RECIPE = Recover(epochs=2, batch_size=8, cache="off")
STEPS = 4
"""Of an epoch of 32 examples in batches of 8: one of sparse learning, one in each round."""


def _little() -> tuple[nn.Sequential, Data]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
        )  # fmt: skip
    return module.eval(), _counting(32)[0]


def _widths(module: nn.Module) -> list[int]:
    return [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_rounds_reach_the_share_of_the_unpruned_network(task: Task) -> None:
    module, data = _little()
    macs = count_macs(module, (torch.zeros(1, 1, 8, 8),))
    done = prune_and_recover(module, data, task, SMALL, RECIPE, CONTEXT)
    assert count_macs(module, (torch.zeros(1, 1, 8, 8),)) / macs == pytest.approx(0.4, rel=0.05)
    assert done.log.reached == pytest.approx(done.log.after["macs"] / macs)
    assert (done.log.asked, done.log.before["macs"]) == (0.4, macs)
    assert tuple(done.log.widths.values()) == tuple(zip((12, 24), _widths(module), strict=True))
    assert [len(recovery.epochs) for recovery in done.recoveries] == [1, 1]
    metrics = done.as_metrics()
    assert metrics["training"] == metrics["rounds"][1] != metrics["rounds"][0]
    assert metrics["sparse"]["steps"] == STEPS


@pytest.mark.parametrize("measure", ["parameters", "channels"])
def test_shares_of_rounds_multiply(measure: str, task: Task) -> None:
    module, data = _little()
    settings = SMALL.model_copy(update={"keep": Keep.model_validate({measure: 0.5}), "iterations": 3, "sparse": None})
    parameters = count_parameters(module)
    prune_and_recover(module, data, task, settings, None, CONTEXT)
    left = sum(_widths(module)) / 36 if measure == "channels" else count_parameters(module) / parameters
    assert left == pytest.approx(0.5, rel=0.05)


def test_rounds_leave_the_least_of_the_unpruned_layers(task: Task) -> None:
    for floor in (0.1, 0.5):
        module, data = _little()
        with torch.no_grad():  # all that goes would come from one layer
            for name in ("0.weight", "0.bias", "1.weight"):
                module.get_parameter(name)[1:] *= 0.01
            module.get_parameter("3.weight")[:, 1:] *= 0.01
        keep = Keep(channels=0.75)
        settings = SMALL.model_copy(update={"keep": keep, "iterations": 3, "sparse": None, "minimum_share": floor})
        done = prune_and_recover(module, data, task, settings, None, CONTEXT)
        assert _widths(module) == ([3, 24] if floor == 0.1 else [6, 21])
        assert done.log.reached == pytest.approx(0.75)


def test_the_teacher_is_the_unpruned_network_in_every_round(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = _little()
    unpruned, seen = rest.state_digest(module), []

    def watched(student: nn.Module, teacher: nn.Module, *others: Any, **named: Any) -> FitLog:
        seen.append((rest.state_digest(teacher), others[4].seed, named["cache"]))
        return distill(student, teacher, *others, **named)

    monkeypatch.setattr("compress.pruning.recover.distill", watched)
    prune_and_recover(module, data, task, SMALL, RECIPE, CONTEXT)
    assert [digest for digest, _, _ in seen] == [unpruned, unpruned]
    assert {cache for _, _, cache in seen} == {"off"}
    assert seen[0][1] == CONTEXT.seed != seen[1][1]


class _Break(Exception):
    """Stands for a kill."""


class _Breaking:
    """Breaks off after so many steps of training, or when a line begins with `at`; notes which trainings were begun."""

    def __init__(self, steps: int = 1000, at: str = "never") -> None:
        self.steps, self.at, self.trainings = steps, at, 0

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        def advance(steps: int = 1, note: str = "") -> None:
            self.steps -= steps
            if self.steps < 0:
                raise _Break

        self.trainings += 1
        yield advance

    def say(self, message: str) -> None:
        if message.startswith(self.at):
            raise _Break


@pytest.mark.parametrize(
    ("breaking", "left"),
    [
        (_Breaking(2), 3),
        (_Breaking(at="round 1"), 2),
        (_Breaking(STEPS + 2), 2),
        (_Breaking(at="round 2"), 1),
        (_Breaking(2 * STEPS + 3), 1),
    ],
)
def test_an_interrupted_one_ends_in_the_same_bits(
    breaking: _Breaking, left: int, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    kept = replace(CONTEXT, checkpoints=tmp_path)
    (module, data), (broken, _), (whole, _) = _little(), _little(), _little()
    expected = prune_and_recover(whole, data, task, SMALL, RECIPE, CONTEXT)
    with pytest.raises(_Break):
        prune_and_recover(broken, data, task, SMALL, RECIPE, replace(kept, progress=breaking))
    again = _Breaking()
    assert prune_and_recover(module, data, task, SMALL, RECIPE, replace(kept, progress=again)) == expected
    assert rest.state_digest(module) == rest.state_digest(whole)
    assert again.trainings == left
    assert again.steps <= 1000 - STEPS * left


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What choices are judged by from here on, in turn."""
    judged: list[str] = []
    for name in ("distance", "distance_after_training"):
        plain = getattr(Judge, name)

        def counted(*arguments: Any, name: str = name, plain: Any = plain) -> float:
            judged.append(name)
            return float(plain(*arguments))

        monkeypatch.setattr(Judge, name, counted)
    return judged


@pytest.mark.parametrize("steps", [3, 13])
def test_a_search_among_blocks_goes_on_where_it_was_interrupted(
    steps: int, data: Data, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.pruning.candidates.SHORT", 4)
    monkeypatch.setattr("compress.pruning.candidates.LONG", 8)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    judged = _counted(monkeypatch)
    settings = Prune.model_validate({"keep": {"macs": 0.6}, "depth": True, "candidates": 12, "rounds": 1})
    whole = build(Factory("zoo", "resnet14", {"num_classes": 10, "in_channels": 1, "width": 0.5}), seed=0)
    broken, kept = copy.deepcopy(whole), replace(CONTEXT, checkpoints=tmp_path / "kept")
    expected = prune_and_recover(whole, data, task, settings, None, CONTEXT)
    undisturbed = Counter(judged)
    judged.clear()
    with pytest.raises(_Break):
        prune_and_recover(broken, data, task, settings, None, replace(kept, progress=_Breaking(steps)))
    before = len(judged)
    assert prune_and_recover(broken, data, task, settings, None, kept) == expected
    assert 0 < before < len(judged) and Counter(judged) == undisturbed
    assert rest.state_digest(broken) == rest.state_digest(whole)


def test_another_recovery_judges_no_choice_again(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.pruning.candidates.SHORT", 2)
    monkeypatch.setattr("compress.pruning.candidates.LONG", 4)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    judged = _counted(monkeypatch)

    def choose(seed: int, recipe: Recover | None) -> tuple[Any, int]:
        module, data = _little()
        settings = Prune.model_validate({"keep": {"macs": 0.6}, "depth": True, "candidates": 4, "rounds": 1})
        before, place = len(judged), tmp_path / str(len(list(tmp_path.iterdir())))
        done = prune_and_recover(module, data, task, settings, recipe, replace(CONTEXT, seed=seed, checkpoints=place))
        return done.log, len(judged) - before

    chosen, count = choose(0, Recover(epochs=1))
    assert count > 0
    assert choose(0, Recover(epochs=2, learning_rate=0.01)) == (chosen, 0)
    assert choose(1, Recover(epochs=1))[1] == choose(0, Recover(epochs=1, precision="bf16"))[1] == count


def test_what_was_kept_for_another_task_or_target_is_refused(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(folder: str, threads: int) -> None:
        module, data = _little()
        target = Where(TargetSettings(threads=threads), Deployment({}, (), ()), Silent())
        context = replace(CONTEXT, checkpoints=tmp_path / folder)
        prune_and_recover(module, data, task, SMALL, None, context, target)

    for folder in ("task", "target"):
        cut(folder, 1)
        cut(folder, 1)
    with pytest.raises(UsageError, match="checkpoints of another training"):
        cut("target", 2)
    monkeypatch.setattr(type(task), "name", "another")
    with pytest.raises(UsageError, match="checkpoints of another training"):
        cut("task", 1)


def test_a_rehearsal_does_two_batches_of_each_phase(task: Task, tmp_path: Path) -> None:
    module, data = _little()
    context = replace(CONTEXT, rehearsal=True, checkpoints=tmp_path)
    done = prune_and_recover(module, data, task, SMALL, RECIPE, context)
    assert done.sparse is not None
    assert [log.steps for log in (done.sparse, *done.recoveries)] == [2, 2, 2]
    assert list(tmp_path.iterdir()) == []


def test_one_line_says_what_was_done() -> None:
    log = PruneLog("macs", 0.5, 0.512, {"macs": 2000, "parameters": 100}, {"macs": 1024, "parameters": 60}, {}, {})
    assert describe(log) == "pruned to 51.2% of the macs (asked 50.0%): macs 2,000 -> 1,024, parameters 100 -> 60"


def test_one_line_says_what_time_was_reached() -> None:
    timing = Timing("phone", "int8", 2, 4.0, 2.0, 0.51234, 1.9, 2.04321, ("layer1.1", "layer2.1"), {})
    sizes = {"macs": 2000}, {"macs": 1024}
    log = PruneLog("latency_p50_ms", 2.0, 2.04321, *sizes, {}, {}, timing.dropped, timing)
    assert describe(log) == (
        "pruned from 4 to 2.04 ms in int8 at batch 2 on phone (asked 2, predicted 1.9, fastest reachable 0.512), "
        "blocks gone: 2: macs 2,000 -> 1,024"
    )
    over = replace(log, timing=replace(timing, over_ms=6.0))
    assert "on phone (unpruned in fp32 6, asked 2, predicted" in describe(over)
