from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.language import CausalLM
from compress.tasks.task import Task
from compress.tasks.text_classification import TextClassification
from compress.training import evaluate as module
from compress.training.evaluate import evaluate, mean_loss, predict, targets_of
from tests.data.text_helpers import labelled

MakeNetwork = Callable[..., nn.Sequential]


@pytest.mark.parametrize("batch_size", [1, 7, 60, 1000])
def test_outputs_are_those_of_the_network_in_order(data: Data, make_network: MakeNetwork, batch_size: int) -> None:
    network = make_network()
    found = predict(network, data, data.validation, batch_size=batch_size)
    inputs = np.stack(data.validation.raw(range(60)))
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_modes_are_left_as_they_were(data: Data, make_network: MakeNetwork) -> None:
    network = make_network().train()
    network[1].eval()
    predict(network, data, data.validation, context=Context(threads=1))
    assert network.training
    assert not network[1].training
    assert network[3].training


class Refuses(nn.Module):
    """Like an exported graph."""

    def train(self, mode: bool = True) -> Refuses:
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :3]


def test_modes_can_be_the_callers_business(data: Data) -> None:
    assert predict(Refuses(), data, data.validation, keep_mode=True).shape == (60, 3)


def test_metrics_are_the_tasks(data: Data, task: Task, make_network: MakeNetwork) -> None:
    network = make_network()
    outputs = predict(network, data, data.test)
    expected = float((outputs.argmax(1) == targets_of(data.test)).mean())
    assert evaluate(network, data, task, data.test) == {"accuracy": pytest.approx(expected)}


def test_an_empty_split_is_refused(data: Data, make_network: MakeNetwork) -> None:
    empty = replace(data, test=ArraySplit(np.empty((0, 1, 6, 6), np.float32), np.empty(0, np.int64)))
    with pytest.raises(UsageError, match="empty"):
        predict(make_network(), empty, empty.test)


class Bag(nn.Module):
    """The mean of two numbers for each token; or, with a vocabulary, logits for each token."""

    def __init__(self, vocabulary: int, width: int, tokens: bool) -> None:
        super().__init__()
        self.table, self.tokens = nn.Embedding(vocabulary, width), tokens

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        rows: Tensor = self.table(ids) * mask[..., None]
        return rows if self.tokens else rows.sum(1) / mask.sum(1, keepdim=True)


def test_texts_are_answered_in_the_order_of_the_split(tmp_path: Path) -> None:
    texts = labelled(tmp_path, count=90)
    task = TextClassification()
    network = Bag(task.prepare(texts).text.vocabulary_size, 2, tokens=False)  # type: ignore[union-attr]
    found = predict(network, texts, texts.train, task=task, batch_size=7)
    ids, mask = (torch.from_numpy(array) for array in texts.batch(texts.train, range(len(texts.train))).inputs)
    np.testing.assert_allclose(found, network(ids, mask).detach().numpy(), atol=1e-6)
    accuracy = np.mean(found.argmax(1) == targets_of(texts.train))
    assert evaluate(network, texts, task, texts.train)["accuracy"] == pytest.approx(accuracy)


def test_answers_for_tokens_are_condensed_batch_by_batch(tmp_path: Path) -> None:
    task = CausalLM()
    texts = task.prepare(labelled(tmp_path, count=90))
    network = Bag(task.output_size(texts), task.output_size(texts), tokens=True)
    found = predict(network, texts, texts.train, task=task, batch_size=7)
    batch = texts.batch(texts.train, range(len(texts.train)))
    logits = network(*map(torch.from_numpy, batch.inputs)).detach()
    assert found.shape == (*batch.targets.shape, 4)
    np.testing.assert_allclose(found, task.condense(logits, batch.targets), atol=1e-5)
    expected = float(task.loss(logits, torch.from_numpy(batch.targets)))
    assert mean_loss(task, found, batch.indices) == pytest.approx(expected, rel=1e-5)
    assert evaluate(network, texts, task, texts.train)["perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
    whole = predict(network, texts, texts.train, batch_size=7)
    np.testing.assert_allclose(whole * np.asarray(batch.inputs[1])[..., None], logits.numpy(), atol=1e-6)


def test_processes_pad_their_shares_to_the_longest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {1: np.array([3]), 3: np.full((4, 3, 2), 7.0, np.float32)}

    def gather(part: np.ndarray, world_size: int) -> np.ndarray:
        return np.concatenate([part, others[part.ndim]])

    monkeypatch.setattr(module, "gather_arrays", gather)
    found = module._gathered([np.ones((2, 2, 2), np.float32), np.ones((1, 1, 2), np.float32)], 2)
    assert found.shape == (7, 3, 2)
    assert (found[:2, :2] == 1).all() and (found[2, 0] == 1).all() and (found[3:] == 7).all()
    assert (found[:3, 2] == 0).all() and (found[2, 1] == 0).all()


def test_the_loss_of_other_tasks_is_that_of_all_examples(data: Data, task: Task, make_network: MakeNetwork) -> None:
    answers = predict(make_network(), data, data.validation, task=task)
    targets = targets_of(data.validation)
    expected = float(nn.functional.cross_entropy(torch.from_numpy(answers), torch.from_numpy(targets)))
    assert mean_loss(task, answers, targets) == pytest.approx(expected)
