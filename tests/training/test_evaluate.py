from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.evaluate import evaluate, predict, targets_of

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
