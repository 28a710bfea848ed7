from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.collate import IGNORED
from compress.data.dataset import Data
from compress.data.open import open_data
from compress.data.settings import DataSettings, read_data_settings
from compress.distillation.distill import distill
from compress.distillation.stage import Distill
from compress.errors import UsageError
from compress.generation.on_policy import OnPolicy
from compress.generation.settings import OnPolicySettings
from compress.models import rest
from compress.stage import Context
from compress.tasks.open import open_task
from compress.training.batches import to_torch
from compress.training.method import Method, TorchBatch, TrainingProgress
from compress.training.settings import Recipe
from compress.training.stage import Train
from tests.generation.helpers import NETWORKS, built, context_of

CPU = torch.device("cpu")


class _Spy(Method):
    def __init__(self) -> None:
        self.seen: list[TorchBatch] = []

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        self.seen.append(batch)
        return torch.zeros(())


def at(step: int, seed: int = 0) -> TrainingProgress:
    return TrainingProgress(epoch=0, step=step, steps=100, seed=seed)


def opened(folder: Path, settings: DataSettings, task: str) -> tuple[nn.Module, Data, TorchBatch, Context]:
    context = context_of(settings, task)
    module = rest.load(built(folder, context).path)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(6)
    data = open_task(context.task).prepare(open_data(settings))
    return module, data, to_torch(data.batch(data.train, range(6)), CPU), context


def spied(data: Data, **settings: Any) -> tuple[OnPolicy, _Spy, _Spy]:
    inner, own = _Spy(), _Spy()
    return OnPolicy(inner, own, data, OnPolicySettings.model_validate(settings)), inner, own


def test_the_inner_loss_sees_the_students_samples_after_the_same_prompts(
    questions: DataSettings, tmp_path: Path
) -> None:
    module, data, batch, _ = opened(tmp_path, questions, "causal-lm")
    method, inner, own = spied(data, share=1.0, max_new_tokens=5, temperature=1e-4)  # next to no temperature: greedy
    module.train()
    method.loss(module, batch, at(0))
    assert module.training
    assert not inner.seen
    (seen,) = own.seen
    assert data.text is not None
    for number in range(6):
        learnt = np.where(batch.targets[number].numpy() != IGNORED)[0]
        prompt = batch.inputs[0][number, : learnt[0] + 1].tolist()
        said: list[int] = []
        while len(said) < 5 and said[-1:] != [data.text.end_id]:
            with torch.no_grad():
                ids = torch.tensor([prompt + said])
                said.append(int(module.eval()(ids, torch.ones_like(ids))[0, -1].argmax()))
        row = (prompt + said + [0] * 24)[: seen.inputs[0].shape[1]]
        assert seen.inputs[0][number].tolist() == row
        there = len(prompt) + len(said)
        assert seen.inputs[1][number].tolist() == [1] * there + [0] * (len(row) - there)
        counted = [-1 if len(prompt) - 1 <= t < there - 1 else IGNORED for t in range(len(row))]
        assert seen.targets[number].tolist() == counted
    assert torch.equal(seen.indices, batch.indices)


def test_a_decoder_reads_its_own_samples(questions: DataSettings, tmp_path: Path) -> None:
    module, data, batch, _ = opened(tmp_path, questions, "sequence-to-sequence")
    method, _, own = spied(data, share=1.0, max_new_tokens=5)
    method.loss(module, batch, at(0))
    (seen,) = own.seen
    assert torch.equal(seen.inputs[0], batch.inputs[0])
    assert data.text is not None
    assert set(seen.inputs[2][:, 0].tolist()) == {data.text.start_id}
    assert seen.inputs[2].shape == seen.targets.shape
    assert not torch.equal(seen.inputs[2], batch.inputs[2])


def test_the_first_half_of_a_block_of_plain_text_is_its_prompt(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("the cat sat on a mat . a dog ran to the cat . " * 40)
    settings = read_data_settings(
        {
            "source": {"plain_text": {"path": "book.txt"}},
            "text": {"tokenizer": "characters", "max_length": 16},
            "split": {"validation": 0.2, "test": 0.2},
        },
        tmp_path,
    )
    module, data, batch, _ = opened(tmp_path, settings, "causal-lm")
    method, _, own = spied(data, share=1.0, max_new_tokens=64)
    method.loss(module, batch, at(0))
    (seen,) = own.seen
    assert torch.equal(seen.inputs[0][:, :8], batch.inputs[0][:, :8])
    assert seen.inputs[0].shape[1] <= 16
    assert (seen.targets[:, :7] == IGNORED).all()
    assert (seen.targets[:, 7] == -1).all()


def test_the_share_of_steps_is_what_was_asked_and_follows_from_the_seed(
    questions: DataSettings, tmp_path: Path
) -> None:
    module, data, batch, _ = opened(tmp_path, questions, "causal-lm")
    method, inner, own = spied(data, share=0.3)
    on = [method.is_on(at(step)) for step in range(2000)]
    assert abs(np.mean(on) - 0.3) < 4 * np.sqrt(0.21 / 2000)
    assert on == [method.is_on(at(step)) for step in range(2000)]
    assert on != [method.is_on(at(step, seed=1)) for step in range(2000)]
    never, inner, own = spied(data, share=0.0)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for step in range(5):
        never.loss(module, batch, at(step))
    assert all(seen is batch for seen in inner.seen)
    assert not own.seen
    assert torch.equal(torch.get_rng_state(), state)
    drawn = []
    for rank, step, seed in ((0, 1, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)):
        ranked = OnPolicy(inner, own, data, OnPolicySettings(share=1.0, temperature=3.0), rank)
        drawn.append(ranked.sampled(module, batch, at(step, seed)).inputs[0].tolist())
    assert drawn[0] == drawn[1]
    assert all(drawn[0] != other for other in drawn[2:])


@pytest.mark.parametrize("task", ["causal-lm", "sequence-to-sequence"])
def test_training_with_it_is_reproducible_resumes_and_changes_nothing_at_share_0(
    task: str, questions: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(questions, task)
    student, teacher = (built(tmp_path, context, NETWORKS[task], name) for name in ("student", "other"))
    data = open_task(context.task).prepare(open_data(questions))
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.01, keep="last")
    losses = [{"jsd": {"weight": 1.0}}, {"task": {"weight": 0.5}}]

    def trained(share: float | None, context: Context = context) -> str:
        module = rest.load(student.path)
        settings = None if share is None else OnPolicySettings(share=share, max_new_tokens=6)
        where = open_task(context.task)
        distill(module, rest.load(teacher.path), data, where, recipe, losses, context, on_policy=settings, cache="off")
        return rest.state_digest(module)

    half = trained(0.5)
    assert trained(None) == trained(0.0) != half == trained(0.5) != trained(1.0)
    monkeypatch.setenv("COMPRESS_CHECKPOINT_SECONDS", "0")
    stopping = context_of(questions, task, checkpoints=tmp_path / "checkpoints")
    with monkeypatch.context() as broken:
        before, calls = OnPolicy.loss, []

        def failing(self: OnPolicy, *arguments: Any) -> Tensor:
            calls.append(1)
            if len(calls) > 4:
                raise OSError("the power is gone")
            return before(self, *arguments)

        broken.setattr(OnPolicy, "loss", failing)
        with pytest.raises(OSError, match="the power is gone"):
            trained(0.5, stopping)
    assert trained(0.5, stopping) == half


def test_labels_do_not_count_for_samples(questions: DataSettings, tmp_path: Path) -> None:
    context = context_of(questions)
    student = rest.load(built(tmp_path, context).path)
    data = open_task(context.task).prepare(open_data(questions))
    recipe, chosen = Recipe(epochs=1, batch_size=8), OnPolicySettings(share=1.0, max_new_tokens=4)
    with pytest.raises(UsageError, match="on_policy: needs a loss between the answers"):
        distill(student, student, data, open_task(context.task), recipe, ["task"], context, on_policy=chosen)
    digests = []
    for weight in (0.0, 3.0):
        module = rest.load(tmp_path / "teacher")
        losses = [{"kl": {"weight": 1.0}}, {"task": {"weight": weight}}]
        teacher = rest.load(tmp_path / "teacher")
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.mul_(2)
        distill(module, teacher, data, open_task(context.task), recipe, losses, context, on_policy=chosen)
        digests.append(rest.state_digest(module))
    assert digests[0] == digests[1]
    assert digests[0] != rest.state_digest(rest.load(tmp_path / "teacher"))


def test_samples_need_a_task_of_language_and_no_cache() -> None:
    with pytest.raises(UsageError, match="causal-lm or sequence-to-sequence"):
        OnPolicy(_Spy(), _Spy(), Data(*([None] * 3)), OnPolicySettings())  # type: ignore[arg-type]
    stage = Distill.model_validate({"teacher": "t", "on_policy": {}, "cache": {"views": 2}})
    assert [key for key, _ in stage.faults()] == ["cache"]


@pytest.mark.parametrize("task", ["causal-lm", "sequence-to-sequence"])
def test_rationales_of_own_samples_are_refused(task: str, questions: DataSettings, tmp_path: Path) -> None:
    data = open_task(context_of(questions, task).task).prepare(open_data(questions))
    both, _ = Train(rationale_weight=1).learnt(data, None)
    with pytest.raises(UsageError, match="own samples have no rationales: set `rationale_weight: 0`"):
        OnPolicy(_Spy(), _Spy(), both, OnPolicySettings())
