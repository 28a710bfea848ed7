"""Compiled training steps: long, because a compiler for C++ is at work."""

from __future__ import annotations

import copy

import pytest
import torch

from compress.quantization.calibrate import calibrate
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.prepare import prepare
from compress.training.compiled import compiled, forget_compiled
from tests.quantization.networks import network


def test_nothing_is_compiled_unless_it_is_wanted() -> None:
    module = torch.nn.Linear(2, 2)
    with compiled(module, wanted=False):
        assert module._compiled_call_impl is None
    assert "_compiled_for_training" not in module.__dict__


def test_the_module_is_eager_again_behind_the_block_and_can_be_copied() -> None:
    module = torch.nn.Linear(2, 2)
    names = list(module.state_dict())
    with compiled(module, wanted=True):
        assert module._compiled_call_impl is not None
    assert module._compiled_call_impl is None
    assert list(module.state_dict()) == names
    forget_compiled(module)
    assert list(copy.deepcopy(module).__dict__) == list(torch.nn.Linear(2, 2).__dict__)


@pytest.mark.long
@pytest.mark.parametrize("learning", [False, True])
def test_a_compiled_step_of_int8_training_is_the_eager_one(learning: bool) -> None:
    module, x = network("residual")
    eager = prepare(module, (x[:2],))
    calibrate(eager, lambda: [(x,)], "minmax")
    fused = copy.deepcopy(eager)
    for model in (eager, fused):
        for part in model.modules():
            part.training = True
            if isinstance(part, FakeQuantize):
                part.learning = learning
    eager(x).square().mean().backward()
    with compiled(fused, wanted=True):
        fused(x).square().mean().backward()
    gradients = [
        (name, a.grad, b.grad)
        for (name, a), b in zip(eager.named_parameters(), fused.parameters(), strict=True)
        if a.grad is not None
    ]
    assert any(name.endswith("scale") for name, _, _ in gradients) is learning
    for name, expected, found in gradients:
        assert found is not None, name
        assert torch.allclose(found, expected, atol=5e-3 * float(expected.abs().max())), name  # ties round either way


@pytest.mark.parametrize("learning", [False, True])
def test_int8_training_is_one_graph_for_the_compiler(learning: bool) -> None:
    module, x = network("residual")
    prepared = prepare(module, (x[:2],))
    calibrate(prepared, lambda: [(x,)], "minmax")
    prepared.train()
    for part in prepared.modules():
        if isinstance(part, FakeQuantize):
            part.observing, part.learning = not learning, learning
    assert torch._dynamo.explain(prepared)(x).graph_count == 1
