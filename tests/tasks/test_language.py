from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.data.collate import IGNORED
from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.tasks.language import CausalLM, MaskedLM, SequenceToSequence, TokenTask
from tests.data.text_helpers import labelled, opened, table

RANDOM = np.random.default_rng(0)


def asked(folder: Path) -> Data:
    """Sentences with an answer each."""
    rows = [{"q": f"the cat sat on a mat {'the ' * (i % 4)}", "a": "a dog ."} for i in range(40)]
    return opened(folder, {"table": {"path": table(folder, rows), "input": "q", "target": "a"}}, {"targets": "text"})


def data_for(task: TokenTask, folder: Path) -> Data:
    return asked(folder) if isinstance(task, SequenceToSequence) else labelled(folder)


TASKS = [CausalLM(), MaskedLM(), SequenceToSequence()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_loss_is_the_mean_cross_entropy_of_the_tokens_that_count(task: TokenTask) -> None:
    logits = RANDOM.normal(size=(3, 4, 9))
    targets = RANDOM.integers(0, 9, (3, 4))
    targets[0], targets[1, 2:] = IGNORED, IGNORED
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.mean([-np.log(shares[n, t, targets[n, t]]) for n, t in np.argwhere(targets != IGNORED)])
    learned = torch.tensor(logits, requires_grad=True)
    loss = task.loss(learned, torch.tensor(targets))
    assert loss.ndim == 0 and float(loss.detach()) == pytest.approx(expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert learned.grad is not None
    assert (learned.grad[0] == 0).all() and (learned.grad[1, :2] != 0).any()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_without_a_token_to_learn_the_loss_is_zero_and_gives_gradients(task: TokenTask) -> None:
    learned = torch.randn(2, 3, 5, requires_grad=True)
    loss = task.loss(learned, torch.full((2, 3), IGNORED))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0 and learned.grad is not None and (learned.grad == 0).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_prepared_data_have_targets_for_tokens(task: TokenTask, tmp_path: Path) -> None:
    data = data_for(task, tmp_path)
    assert task.check(data) == []
    prepared = task.prepare(data)
    batch = prepared.batch(prepared.train, np.arange(8))
    assert batch.targets.shape == batch.inputs[-1].shape and batch.targets.dtype == np.int64
    assert (batch.targets != IGNORED).any() and batch.targets.max() < task.output_size(data)
    assert task.class_axis == -1 and not task.higher_is_better and task.metric == "perplexity"
    again = task.prepare(prepared)
    np.testing.assert_array_equal(again.batch(again.train, np.arange(8)).targets, batch.targets)
    logits = np.zeros((*batch.targets.shape, task.output_size(data)), np.float32)
    answers = task.condense(logits, batch.targets)
    assert task.metrics(answers, batch.indices)["perplexity"] == pytest.approx(task.output_size(data), rel=1e-5)
    assert task.agreement(answers, answers) == 1


def test_the_share_of_masked_tokens_is_a_choice(tmp_path: Path) -> None:
    data = labelled(tmp_path, count=200)
    counts = []
    for share in (0.15, 0.6):
        prepared = MaskedLM(share).prepare(data)
        batch = prepared.batch(prepared.train, np.arange(len(prepared.train)))
        counts.append(int((batch.targets != IGNORED).sum()))
    assert counts[1] > 1.8 * counts[0]


def test_data_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    split = ArraySplit(np.zeros((4, 2)), np.zeros(4, np.int64))
    numbers = Data(split, split, split)
    for task in TASKS:
        [fault] = task.check(numbers)
        assert "this task needs texts" in fault
    with pytest.raises(UsageError, match="masked-lm needs texts"):
        MaskedLM().output_size(numbers)
    assert "needs target texts" in SequenceToSequence().check(labelled(tmp_path))[0]
