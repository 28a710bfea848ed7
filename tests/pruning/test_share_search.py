"""A share with blocks among what may go: counted as an independent counter does, and reached."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.count import count_macs, count_parameters
from compress.models.zoo.table import build_zoo
from compress.pruning.cost import Costs
from compress.pruning.importance.measures import Given
from compress.pruning.prunable import prunable_groups
from compress.pruning.settings import Pruning
from compress.pruning.shape import Shape
from compress.pruning.share_search import Counted, prune_with_blocks
from compress.pruning.surgery import cut
from compress.stage import Silent

COUNTS: dict[str, Callable[[nn.Module, Tensor], int]] = {
    "macs": lambda module, example: count_macs(module, (example,)),
    "parameters": lambda module, example: count_parameters(module),
}
NAMES = ("encoder_decoder", "group_norm", "tied", "transformer", "resnet_a", "mobilenet")


@pytest.mark.parametrize("measure", COUNTS)
@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_cut_network(
    name: str, measure: str, network: Callable[[str], nn.Module], example: Tensor
) -> None:
    module = network(name)
    groups, _ = prunable_groups(module, [example])
    costs = Costs(module, groups, [example])
    whole = Shape({group.name: group.units for group in groups})
    counted = Counted(costs, measure)
    assert counted.predict(whole) == pytest.approx(1)
    draw = random.Random(0)
    removed = {group.name: draw.sample(range(group.units), draw.randrange(group.units)) for group in groups}
    pruned = copy.deepcopy(module)
    cut(pruned, groups, removed)
    left = Shape({group.name: group.units - len(removed[group.name]) for group in groups})
    expected = COUNTS[measure](pruned, example) / COUNTS[measure](module, example)
    assert counted.predict(left) == pytest.approx(expected, rel=0.01 if measure == "macs" else 1e-9)


def _prune(share: dict[str, float], **settings: Any) -> tuple[nn.Module, nn.Module, Any]:
    torch.manual_seed(0)
    whole = build_zoo("resnet20", num_classes=5, in_channels=3, width=1.0, shortcut="B").eval()
    pruned, images = copy.deepcopy(whole), torch.randn(16, 3, 16, 16)
    given = Given(
        [(((images[i : i + 4]),), torch.tensor([0, 1, 2, 3])) for i in (0, 4, 8)], nn.functional.cross_entropy
    )
    chosen = Pruning.model_validate({"keep": share, "depth": True, "rounds": 2, "candidates": 4, **settings})
    return whole, pruned, prune_with_blocks(pruned, [images[:2]], chosen, given, lambda choose: choose(), Silent())


@pytest.mark.parametrize(("measure", "share"), [("macs", 0.5), ("parameters", 0.3)])
def test_the_share_is_left_and_blocks_are_gone(measure: str, share: float) -> None:
    whole, pruned, log = _prune({measure: share})
    example = torch.zeros(1, 3, 16, 16)
    left = COUNTS[measure](pruned, example) / COUNTS[measure](whole, example)
    assert left == pytest.approx(log.reached)
    assert left == pytest.approx(share, rel=0.05)
    for path in log.dropped:
        assert isinstance(pruned.get_submodule(path), nn.Identity)
        assert log.widths[f"{path}.conv1"][1] == 0
    assert pruned(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_what_cannot_be_left_says_what_can() -> None:
    with pytest.raises(UsageError, match=r"keep.macs: a share of 0.001 cannot be reached; the least .* is 0\.0"):
        _prune({"macs": 0.001})
