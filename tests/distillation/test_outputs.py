from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compress.distillation.outputs import observe, watched
from compress.errors import UsageError
from tests.distillation.networks import convolution, images, sentences, text


class Odd(nn.Module):
    """Modules that give tuples, mappings and whole numbers, or are never run."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.named, self.whole, self.idle = Pair(), Named(), Whole(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.pair(number=3, x=x)[1] + self.named(x)["states"] + self.whole(x)
        return found


class Pair(nn.Module):
    def forward(self, x: Tensor, number: int) -> tuple[int, Tensor]:
        return number, x * number


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"places": torch.arange(2), "states": x + 1}


class Whole(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape, dtype=torch.int64)


def test_points_are_outputs_and_first_inputs() -> None:
    network, x = convolution().eval(), images(2)
    seen = observe(network, (x,), ["layer1", "layer2:input", "linear:input"])
    torch.testing.assert_close(seen.points["layer1"], seen.points["layer2:input"], rtol=0, atol=0)
    torch.testing.assert_close(network.linear(seen.points["linear:input"]), seen.logits)  # type: ignore[operator]
    torch.testing.assert_close(seen.logits, network(x))
    assert seen.points["layer1"].requires_grad
    assert observe(network, (x,)).points == {}


def test_tensors_are_found_in_tuples_mappings_and_named_arguments() -> None:
    x = torch.ones(1, 2)
    seen = observe(Odd(), (x,), ["pair", "pair:input", "named"]).points
    assert seen["pair"].tolist() == [[3, 3]]
    assert seen["pair:input"].tolist() == [[1, 1]]
    assert seen["named"].tolist() == [[2, 2]]


def test_layers_of_transformers_give_their_states() -> None:
    network, inputs = text("gpt2", "causal-lm"), sentences()
    seen = observe(network, inputs, ["network.transformer.h.0:input", "network.transformer.h.1"])
    assert [tuple(states.shape) for states in seen.points.values()] == [(4, 7, 16)] * 2


def test_a_module_that_is_not_run_or_gives_no_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match="does not run its module 'idle'"):
        observe(Odd(), (torch.ones(1, 2),), ["idle:input"])
    with pytest.raises(UsageError, match="'whole' gives no tensor of floating-point"):
        observe(Odd(), (torch.ones(1, 2),), ["whole"])


def test_nothing_is_left_on_the_network() -> None:
    network = convolution()
    with watched(network, ["layer1", "layer2:input"]):
        pass
    with pytest.raises(UsageError):
        observe(Odd(), (torch.ones(1, 2),), ["whole"])
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
