"""Against each block bypassed in the whole network, everything computed anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from compress.pruning.block_harm import harm_of_blocks
from compress.pruning.depth import bypassed, find_blocks
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import joined
from tests.pruning.test_depth import WITH_BLOCKS, network


@torch.no_grad()
def given_for(module: nn.Module, arrays: tuple[Tensor, ...], batches: int = 3) -> Given:
    """Batches that differ, and how far answers are from those of the whole network."""
    varied = [tuple(a.roll(n, -1) if a.is_floating_point() else a.roll(n, 0) for a in arrays) for n in range(batches)]
    return Given([(one, module(*one).flatten(1)) for one in varied], lambda x, y: mse_loss(x.flatten(1), y))


@torch.no_grad()
def plainly(module: nn.Module, paths: list[str], dropped: set[str], given: Given) -> dict[str, float]:
    def mean(gone: set[str]) -> float:
        large = joined(given.batches)
        with bypassed(module, gone):
            return sum(float(given.loss(module(*inputs), targets)) for inputs, targets in large) / len(large)

    return {path: max(mean({path, *dropped}) - mean(dropped), 0.0) for path in paths if path not in dropped}


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_harm_is_that_of_the_whole_network_without_the_block(name: str) -> None:
    _, module, arrays = network(name)
    paths, given = find_blocks(module, arrays), given_for(module, arrays)
    for dropped in (set[str](), {paths[0]}, {paths[-1]}):
        found = harm_of_blocks(module, paths, dropped, given)
        assert found == pytest.approx(plainly(module, paths, dropped, given), rel=1e-4, abs=1e-9)
        assert set(found) == set(paths) - dropped
    assert all(value > 0 for value in harm_of_blocks(module, paths, set(), given).values())
    assert all("forward" not in vars(part) for part in module.modules())


class Twice(nn.Module):
    """Two blocks of which one is called before and after the other, and one that changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Adding(), Adding(), Adding()])
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        first, second, third = self.blocks
        return self.head(third(first(second(first(x * 1.0)))))


class Adding(nn.Module):
    """Adds to its input, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return x.add_(torch.tanh(self.inner(x)))


def test_a_block_that_is_called_again_is_computed_again() -> None:
    torch.manual_seed(0)
    module, generator = Twice().eval(), torch.Generator().manual_seed(0)
    paths = [f"blocks.{number}" for number in range(3)]
    given = given_for(module, (torch.randn(4, 8, generator=generator),))
    found = harm_of_blocks(module, paths, set(), given)
    assert found == pytest.approx(plainly(module, paths, set(), given), rel=1e-4, abs=1e-9)
    assert all(value > 0 for value in found.values())


def test_what_comes_before_a_block_is_computed_once() -> None:
    _, module, arrays = network("resnet14 B")
    paths, calls, given = find_blocks(module, arrays), list[str](), given_for(module, arrays, batches=1)
    for path in paths:
        inner = next(part for part in module.get_submodule(path).modules() if isinstance(part, nn.Conv2d))
        inner.register_forward_hook(lambda *_, path=path: calls.append(path))
    harm_of_blocks(module, paths, set(), given)
    # the first for all, for itself bypassed; each later one also for those before it
    assert [calls.count(path) for path in paths] == [number + 2 for number in range(len(paths))]


def test_a_forward_of_a_blocks_own_is_given_back() -> None:
    _, module, arrays = network("resnet14 B")
    path = find_blocks(module, arrays)[0]
    block = module.get_submodule(path)
    own = block.forward
    block.forward = own
    harm_of_blocks(module, find_blocks(module, arrays), set(), given_for(module, arrays))
    assert vars(block)["forward"] is own
