from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.data.dataset import ArraySplit, Data
from compress.errors import StageError, UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import epoch_batches
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.fit import fit
from compress.training.method import Method, Supervised, TorchBatch, TrainingProgress
from compress.training.schedule import learning_rate
from compress.training.settings import Recipe

MakeNetwork = Callable[..., nn.Sequential]
RECIPE = Recipe(epochs=3, batch_size=32)
CONTEXT = Context(seed=0, threads=1)


def bits(module: nn.Module) -> bytes:
    return b"".join(tensor.detach().numpy().tobytes() for tensor in module.state_dict().values())


def test_a_network_learns(data: Data, task: Task, make_network: MakeNetwork) -> None:
    log = fit(make_network(), data, task, Supervised(task), Recipe(epochs=12, learning_rate=0.01), context=CONTEXT)
    assert log.validation["accuracy"] >= 0.9
    assert log.epochs[-1].training_loss < log.epochs[0].training_loss / 2
    assert (len(log.epochs), log.steps) == (12, 24)


def test_it_does_what_a_plain_loop_does(data: Data, task: Task, make_network: MakeNetwork) -> None:
    recipe = Recipe(epochs=3, batch_size=40, optimizer="sgd", keep="last", learning_rate=0.1, gradient_clip=0.5)
    ours, plain = make_network(dropout=0.0), make_network(dropout=0.0)
    log = fit(ours, data, task, Supervised(task), recipe, context=CONTEXT)

    decayed = [p for p in plain.parameters() if p.ndim > 1]
    flat = [p for p in plain.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": flat, "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    losses: list[float] = []
    plain.train()
    for epoch in range(3):
        for indices in epoch_batches(120, 40, 0, epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, len(losses), 3)
            batch = data.batch(data.train, indices)
            optimizer.zero_grad()
            loss = functional.cross_entropy(
                plain(torch.from_numpy(batch.inputs[0])), torch.from_numpy(np.asarray(batch.targets))
            )
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
    assert log.losses == pytest.approx(losses, abs=1e-5)
    for found, wanted in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_bits(data: Data, task: Task, make_network: MakeNetwork) -> None:
    def trained(seed: int) -> bytes:
        network = make_network()
        fit(network, data, task, Supervised(task), RECIPE, context=Context(seed=seed, threads=1))
        return bits(network)

    first = trained(0)
    torch.rand(7)
    assert trained(0) == first
    assert trained(1) != first


def test_it_leaves_the_process_as_it_was(data: Data, task: Task, make_network: MakeNetwork) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    network = make_network()
    fit(network, data, task, Supervised(task), RECIPE, context=Context(threads=1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


class Recorded(Supervised):
    """Notes what it is called for, and keeps the weights of every epoch."""

    def __init__(self, task: Task, keepable: Callable[[int], bool] = lambda epoch: True) -> None:
        super().__init__(task)
        self.calls: list[str] = []
        self.places: list[TrainingProgress] = []
        self.weights: list[bytes] = []
        self.keepable = keepable

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        assert model.training
        self.calls.append("before")
        self.places.append(progress)

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        self.calls.append("loss")
        return super().loss(model, batch, progress)

    def after_backward(self, progress: TrainingProgress) -> None:
        self.calls.append("backward")

    def after_step(self, progress: TrainingProgress) -> None:
        self.calls.append("step")

    def train_mode(self, model: nn.Module) -> None:
        self.calls.append("train")
        model.train()

    def eval_mode(self, model: nn.Module) -> None:
        self.calls.append("eval")
        self.weights.append(bits(model))
        model.eval()

    def may_keep(self, progress: TrainingProgress) -> bool:
        return self.keepable(progress.epoch)


def test_hooks_are_called_in_order(data: Data, task: Task, make_network: MakeNetwork) -> None:
    method = Recorded(task)
    fit(make_network(), data, task, method, Recipe(epochs=2, batch_size=60), context=Context(seed=7, threads=1))
    step = ["before", "loss", "backward", "step"]
    epoch = ["train", *step, *step, "eval"]
    assert method.calls == [*epoch, *epoch, "eval"]
    assert [(p.epoch, p.step, p.steps, p.seed) for p in method.places] == [
        (0, 0, 4, 7),
        (0, 1, 4, 7),
        (1, 2, 4, 7),
        (1, 3, 4, 7),
    ]
    assert [p.fraction for p in method.places] == [0, 0.25, 0.5, 0.75]


def test_the_best_epoch_is_kept(data: Data, task: Task, make_network: MakeNetwork) -> None:
    class Spoiled(Recorded):
        def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
            return super().loss(model, batch, progress) * (-1 if progress.epoch >= 3 else 1)

    recipe = Recipe(epochs=5, learning_rate=0.1, optimizer="sgd", schedule="constant", batch_size=16)
    network, method = make_network(), Spoiled(task)
    log = fit(network, data, task, method, recipe, context=CONTEXT)
    accuracies = [epoch.validation["accuracy"] for epoch in log.epochs]
    assert log.kept_epoch == max(e for e, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    assert bits(network) == method.weights[log.kept_epoch]
    assert log.kept_epoch < 3


def test_only_epochs_that_the_method_allows_are_kept(data: Data, task: Task, make_network: MakeNetwork) -> None:
    network, method = make_network(), Recorded(task, keepable=lambda epoch: epoch == 1)
    log = fit(network, data, task, method, RECIPE, context=CONTEXT)
    assert log.kept_epoch == 1
    assert bits(network) == method.weights[1]


def test_the_last_epoch_is_kept_if_asked(data: Data, task: Task, make_network: MakeNetwork) -> None:
    network, method = make_network(), Recorded(task)
    log = fit(network, data, task, method, RECIPE.model_copy(update={"keep": "last"}), context=CONTEXT)
    assert log.kept_epoch == 2
    assert bits(network) == method.weights[2]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_training_stops_early(keep: str, data: Data, task: Task, make_network: MakeNetwork) -> None:
    recipe = Recipe(epochs=50, early_stopping=2, learning_rate=0.02, schedule="constant", keep=keep)
    log = fit(make_network(), data, task, Supervised(task), recipe, context=CONTEXT)
    assert log.stopped_early
    assert len(log.epochs) < 50
    accuracies = [epoch.validation["accuracy"] for epoch in log.epochs]
    assert len(log.epochs) - 1 == accuracies.index(max(accuracies)) + 2
    latest_best = max(e for e, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    assert log.kept_epoch == (latest_best if keep == "best" else len(log.epochs) - 1)


def test_batch_norms_can_be_frozen(data: Data, task: Task, make_network: MakeNetwork) -> None:
    network = make_network()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    scales = dict(network.named_parameters())["1.weight"]
    before["scales"] = scales.detach().clone()
    fit(network, data, task, Supervised(task), RECIPE.model_copy(update={"freeze_batch_norm": True}), context=CONTEXT)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert not torch.equal(scales, before["scales"])


def test_validation_and_training_never_touch_test_data(data: Data, task: Task, make_network: MakeNetwork) -> None:
    class Forbidden:
        def __len__(self) -> int:
            return 1

        def raw(self, indices: object) -> list[Any]:
            raise AssertionError("test data was read")

        targets = raw

    guarded = replace(data, test=Forbidden())  # type: ignore[arg-type]
    fit(make_network(), guarded, task, Supervised(task), RECIPE, context=CONTEXT)


class Steered(Method):
    """Stops, diverges or counts at a step; owns a projector and a counter."""

    def __init__(self, task: Task, action: Callable[[int], None] = lambda step: None) -> None:
        self.task = task
        self.action = action
        self.projector = nn.Linear(3, 3)
        nn.init.eye_(self.projector.weight)
        nn.init.zeros_(self.projector.bias)
        self.momentum = torch.zeros(3)
        self.count = 0

    def modules(self) -> nn.Module:
        return self.projector

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        outputs = self.projector(model(*batch.inputs))
        self.momentum = 0.9 * self.momentum + outputs.detach().mean(0)
        return self.task.loss(outputs + 0.1 * self.momentum, batch.targets)

    def after_step(self, progress: TrainingProgress) -> None:
        self.count += 1
        self.action(progress.step)

    def state_dict(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.momentum, self.count = state["momentum"], state["count"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_after", [0, 1, 4, 7, 8, 13])
def test_a_resumed_run_ends_in_the_same_bits(
    optimizer: str, stop_after: int, data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    recipe = Recipe(epochs=5, batch_size=42, optimizer=optimizer, early_stopping=4)
    whole, undisturbed = make_network(), Steered(task)
    expected = fit(whole, data, task, undisturbed, recipe, context=CONTEXT)

    def stop(step: int) -> None:
        if step == stop_after:
            raise Stop

    context = replace(CONTEXT, checkpoints=tmp_path)
    with pytest.raises(Stop):
        fit(make_network(), data, task, Steered(task, stop), recipe, context=context)
    network, method = make_network(), Steered(task)
    assert fit(network, data, task, method, recipe, context=context) == expected
    assert bits(network) == bits(whole)
    assert bits(method.projector) == bits(undisturbed.projector)
    assert method.count == undisturbed.count


def test_a_finished_run_is_not_done_again(
    data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    context = replace(CONTEXT, checkpoints=tmp_path)
    first, second = make_network(), make_network()
    log = fit(first, data, task, Supervised(task), RECIPE, context=context)
    method = Recorded(task)
    assert fit(second, data, task, method, RECIPE, context=context) == log
    assert method.calls == ["eval"]
    assert bits(first) == bits(second)


def test_ctrl_c_leaves_a_checkpoint_of_a_whole_step(
    data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path
) -> None:
    import os
    import signal

    def press(step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    context = replace(CONTEXT, checkpoints=tmp_path)
    whole = make_network()
    fit(whole, data, task, Steered(task), RECIPE, context=CONTEXT)
    with pytest.raises(KeyboardInterrupt):
        fit(make_network(), data, task, Steered(task, press), RECIPE, context=context)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000005"]
    network, said = make_network(), Said()
    fit(network, data, task, Steered(task), RECIPE, context=replace(context, progress=said))
    assert said.lines == ["training goes on from step 5 of 12"]
    assert said.advanced == 12
    assert bits(network) == bits(whole)


class Said:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.advanced = 0

    def task(self, description: str, total: int | None) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def shown() -> Any:
            yield self._advance

        return shown()

    def _advance(self, steps: int = 1, note: str = "") -> None:
        self.advanced += steps

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_checkpoints_of_another_training_are_refused(
    data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    context = replace(CONTEXT, checkpoints=tmp_path)
    fit(make_network(), data, task, Supervised(task), RECIPE, context=context)
    with pytest.raises(UsageError, match="another training"):
        fit(make_network(width=5), data, task, Supervised(task), RECIPE, context=context)


def test_divergence_is_said_in_words(data: Data, task: Task, make_network: MakeNetwork) -> None:
    class Diverging(Supervised):
        def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
            return super().loss(model, batch, progress) * (float("nan") if progress.step >= 5 else 1)

    with pytest.raises(StageError, match=r"not finite in epoch 2 .*learning_rate: 0\.0003"):
        fit(make_network(), data, task, Diverging(task), RECIPE, context=CONTEXT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda outputs: outputs.detach().sum(), "does not depend"),
        (lambda outputs: outputs.sum(1), r"one number.*shape \("),
        (lambda outputs: 1.0, "one number.*float"),
    ],
)
def test_losses_that_cannot_be_trained_are_refused(
    wrong: Callable[[Tensor], Any], message: str, data: Data, task: Task, make_network: MakeNetwork
) -> None:
    class Wrong(Supervised):
        def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
            return wrong(model(*batch.inputs))  # type: ignore[no-any-return]

    with pytest.raises(UsageError, match=message):
        fit(make_network(), data, task, Wrong(task), RECIPE, context=CONTEXT)


def test_nothing_to_train_on_or_to_train_is_refused(data: Data, task: Task, make_network: MakeNetwork) -> None:
    empty = replace(data, validation=ArraySplit(np.empty((0, 1, 6, 6), np.float32), np.empty(0, np.int64)))
    with pytest.raises(UsageError, match="validation split is empty"):
        fit(make_network(), empty, task, Supervised(task), RECIPE, context=CONTEXT)
    frozen = make_network()
    frozen.requires_grad_(False)
    with pytest.raises(UsageError, match="nothing to train"):
        fit(frozen, data, task, Supervised(task), RECIPE, context=CONTEXT)


def test_a_rehearsal_takes_two_small_steps(data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path) -> None:
    recipe = Recipe(epochs=30, schedule="step", milestones=(10,), warmup_epochs=5)
    context = replace(CONTEXT, rehearsal=True, checkpoints=tmp_path)
    log = fit(make_network(), data, task, Supervised(task), recipe, context=context)
    assert (log.steps, len(log.epochs)) == (2, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_a_gpu_learns_in_every_precision(precision: Any, data: Data, task: Task, make_network: MakeNetwork) -> None:
    network = make_network()
    recipe = Recipe(epochs=12, learning_rate=0.01, precision=precision)
    log = fit(network, data, task, Supervised(task), recipe, context=Context(device="cuda", threads=1))
    assert log.validation["accuracy"] >= 0.9
    assert next(network.parameters()).device.type == "cpu"


def test_bf16_learns_on_the_cpu(data: Data, task: Task, make_network: MakeNetwork) -> None:
    recipe = Recipe(epochs=12, learning_rate=0.01, precision="bf16")
    log = fit(make_network(), data, task, Supervised(task), recipe, context=CONTEXT)
    assert log.validation["accuracy"] >= 0.9
