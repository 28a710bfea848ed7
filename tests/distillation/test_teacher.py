from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.distillation.teacher import check_answers, open_teacher
from compress.errors import UsageError
from compress.stage import Context
from compress.training.batches import to_torch
from compress.training.method import TorchBatch

MakeNetwork = Callable[..., nn.Sequential]
CONTEXT = Context(threads=1)


def some(data: Data) -> TorchBatch:
    return to_torch(data.batch(data.train, np.array([5, 3, 77])), torch.device("cpu"))


def test_kept_answers_are_those_given_live(data: Data, make_network: MakeNetwork) -> None:
    network, batch = make_network(), some(data)
    kept, live = open_teacher(network, data, CONTEXT), open_teacher(network, data, CONTEXT, cache=False)
    assert kept.cached is not None
    assert live.cached is None
    torch.testing.assert_close(kept(batch), live(batch))
    assert not kept(batch).requires_grad
    assert not live(batch).requires_grad


def test_answers_to_augmented_examples_are_not_kept(data: Data, make_network: MakeNetwork) -> None:
    assert open_teacher(make_network(), replace(data, augmentation=({"flip": {}},)), CONTEXT).cached is None
    assert open_teacher(make_network(), data, replace(CONTEXT, rehearsal=True)).cached is None


def test_huge_answers_are_not_kept(data: Data) -> None:
    class Huge(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.new_zeros(1).expand(len(inputs), 1000, 1000)

    assert open_teacher(Huge(), data, CONTEXT).cached is None


def test_both_must_answer_in_one_shape() -> None:
    check_answers(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(UsageError, match=r"\(100,\).*\(10,\)"):
        check_answers(torch.zeros(2, 10), torch.zeros(2, 100))
