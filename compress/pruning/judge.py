"""How far from before a network answers without some units and blocks: at once, and after a little training.

Outputs are compared, in variances of those of the whole network, so that no task is needed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from compress.modes import evaluating
from compress.pruning.batch_norm import reestimate
from compress.pruning.cost_search import Search
from compress.pruning.depth import drop_blocks
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import LabelledBatch, joined
from compress.pruning.reconstruct import CHECKED, fit_and_check, reconstruct
from compress.pruning.surgery import cut

JUDGED = 256
"""Examples by which choices are judged, at most."""
MOST_NUMBERS = 2**26
"""Outputs that are kept to compare with, at most, unless a few batches have more: those over a vocabulary are large."""
STEPS = 30
"""Steps of the little training."""
FIRST_STEP = 0.02
"""How far the first of them moves each parameter, over its norm; those that follow go linearly down to 0."""


class Judge:
    """Judges choices of one network.

    Args:
        search: has the network, which is left as it is.
        given: examples.
    """

    def __init__(self, search: Search, given: Given) -> None:
        self.search, self.seed = search, given.seed
        self.small = self._first(given.batches)
        self.batches = joined(self.small)
        self.answers = [_answers(search.module, inputs) for inputs, _ in self.batches]

    def distance(self, removed: Chosen, dropped: Collection[str]) -> float:
        """Mean squared distance of the outputs as soon as the units and blocks are gone."""
        pruned = self._pruned(copy.deepcopy(self.search.module), removed, dropped)
        known = zip(self.batches, self.answers, strict=True)
        pairs = ((_answers(pruned, inputs), wanted) for (inputs, _), wanted in known)
        return _mean([_apart(*pair) for pair in pairs])

    def distance_after_training(self, removed: Chosen, dropped: Collection[str]) -> float:
        """Mean squared distance on a quarter of the examples, after some steps on the others towards the outputs.

        Steps are those of You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017
        (arXiv:1708.03888), equation 6, without momentum: each parameter moves by a share of its norm, so that one size
        of step fits all networks.
        """
        fit, check = ([self.small[number] for number in sorted(part)] for part in fit_and_check(len(self.small)))
        whole = copy.deepcopy(self.search.module)
        if self.search.settings.reconstruct:
            reconstruct(whole, self.search.groups, removed, self.small, dropped, self.seed)
        pruned = self._pruned(whole, removed, dropped)
        self._train(pruned, joined(fit))
        pairs = ((_answers(pruned, inputs), _answers(self.search.module, inputs)) for inputs, _ in joined(check))
        return _mean([_apart(*pair) for pair in pairs])

    def _pruned(self, module: nn.Module, removed: Chosen, dropped: Collection[str]) -> nn.Module:
        """`module` without units and blocks, its batch norms estimated anew."""
        cut(module, self.search.groups, removed)
        drop_blocks(module, sorted(dropped))
        reestimate(module, (inputs for inputs, _ in self.batches))
        return module

    def _first(self, batches: Sequence[LabelledBatch]) -> list[LabelledBatch]:
        """The first batches, as many as `JUDGED` and `MOST_NUMBERS` allow, and enough to train on and to check on."""
        inputs, targets = batches[0]
        numbers = sum(output.numel() for output in _answers(self.search.module, inputs))
        count = min(-(-JUDGED // max(len(targets), 1)), MOST_NUMBERS // max(numbers, 1))
        return list(batches[: max(count, CHECKED)])

    def _train(self, module: nn.Module, batches: Sequence[LabelledBatch]) -> None:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        wanted = [_answers(self.search.module, inputs) for inputs, _ in batches]
        module.eval()  # no dropout: the same choice is judged the same
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.train()
        for step in range(STEPS if parameters else 0):
            inputs, _ = batches[step % len(batches)]
            with torch.enable_grad():
                loss = _apart(_numbers(module(*inputs)), wanted[step % len(batches)])
                slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
            size = FIRST_STEP * (1 - step / STEPS)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    steep = 0.0 if slope is None else float(slope.norm())
                    if slope is not None and steep > 0:
                        parameter.sub_(slope, alpha=size * float(parameter.norm()) / steep)


@torch.no_grad()
def _answers(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with evaluating(module):
        return _numbers(module(*inputs))


def _numbers(outputs: object) -> list[Tensor]:
    """The outputs that are numbers."""
    leaves = pytree.tree_leaves(outputs)
    return [leaf.float() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _apart(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean over the outputs of their squared distance in variances."""
    squares = [
        (one - other).square().mean() / (other - other.mean()).square().mean().clamp(min=1e-12)
        for one, other in zip(found, wanted, strict=True)
    ]
    return torch.stack(squares).mean() if squares else torch.zeros(())


def _mean(values: Sequence[Tensor]) -> float:
    mean = float(torch.stack(list(values)).mean())
    return math.inf if math.isnan(mean) else mean
