"""How far from before a network answers without some units and blocks: at once, and after a little training.

Outputs are compared, in variances of those of the whole network, so that no task is needed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from compress.modes import evaluating
from compress.pruning.batch_norm import reestimate
from compress.pruning.cost_search import Search
from compress.pruning.depth import drop_blocks
from compress.pruning.examples import PRACTISED
from compress.pruning.groups import Chosen
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import LabelledBatch, joined
from compress.pruning.reconstruct import CHECKED, fit_and_check, reconstruct
from compress.pruning.surgery import cut
from compress.training.device import Precision, unscaled

Answered = tuple[tuple[Tensor, ...], list[Tensor]]
"""Inputs, and the outputs for them that are numbers."""
JUDGE_RULE = 1
"""Goes up with every change of how choices are judged: what was judged under another rule is judged again."""
JUDGED = 256
"""Examples by which choices are judged, at most."""
MOST_NUMBERS = 2**26
"""Outputs that are kept to compare with, at most, unless a few batches have more: those over a vocabulary are large."""
FIRST_STEP = 0.02
"""How far the first of them moves each parameter, over its norm; those that follow go linearly down to 0."""


class Judge:
    """Judges choices of one network.

    Args:
        search: has the network, which is left as it is.
        given: examples, and more of them to train on; without more the same.
    """

    def __init__(self, search: Search, given: Given) -> None:
        self.search, self.given = search, given
        self.precision = Precision(unscaled(given.precision), given.batches[0][1].device)
        self.small = self._first(given.batches, JUDGED)
        self.known = self._answered(self.small)

    @cached_property
    def practice(self) -> tuple[list[Answered], list[Answered]]:
        """Inputs with the whole network's answers: three quarters to train on, and the others to judge by."""
        large = self._first(self.given.practice or self.given.batches, PRACTISED)
        fit, check = ([large[number] for number in sorted(part)] for part in fit_and_check(len(large)))
        return self._answered(fit), self._answered(check)

    def distance(self, removed: Chosen, dropped: Collection[str]) -> float:
        """Mean squared distance of the outputs as soon as the units and blocks are gone."""
        pruned = self._pruned(copy.deepcopy(self.search.module), removed, dropped)
        return self._distance(pruned, self.known)

    def distance_after_training(self, removed: Chosen, dropped: Collection[str], steps: int) -> float:
        """Mean squared distance on examples of their own, after some steps on others towards the outputs.

        Steps are those of You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017
        (arXiv:1708.03888), equation 6, without momentum: each parameter moves by a share of its norm, so that one size
        of step fits all networks.
        """
        fit, check = self.practice
        whole = copy.deepcopy(self.search.module)
        if self.search.settings.reconstruct:
            reconstruct(whole, self.search.groups, removed, self.small, dropped, self.given.seed)
        pruned = self._pruned(whole, removed, dropped)
        self._train(pruned, fit, steps)
        return self._distance(pruned, check)

    def _pruned(self, module: nn.Module, removed: Chosen, dropped: Collection[str]) -> nn.Module:
        """`module` without units and blocks, its batch norms estimated anew."""
        cut(module, self.search.groups, removed)
        drop_blocks(module, sorted(dropped))
        with self.precision.autocast():
            reestimate(module, (inputs for inputs, _ in self.known))
        return module

    def _answered(self, batches: Sequence[LabelledBatch]) -> list[Answered]:
        return [(inputs, self._answers(self.search.module, inputs)) for inputs, _ in joined(batches)]

    def _first(self, batches: Sequence[LabelledBatch], most: int) -> list[LabelledBatch]:
        """The first batches, as many as `most` and `MOST_NUMBERS` allow, and enough to train on and to check on."""
        inputs, targets = batches[0]
        numbers = sum(output.numel() for output in self._answers(self.search.module, inputs))
        count = min(-(-most // max(len(targets), 1)), MOST_NUMBERS // max(numbers, 1))
        return list(batches[: max(count, CHECKED)])

    def _train(self, module: nn.Module, batches: Sequence[Answered], steps: int) -> None:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        module.eval()  # no dropout: the same choice is judged the same
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.train()
        for step in range(steps if parameters else 0):
            inputs, wanted = batches[step % len(batches)]
            with torch.enable_grad():
                with self.precision.autocast():
                    found = _numbers(module(*inputs))
                slopes = torch.autograd.grad(_apart(found, wanted), parameters, allow_unused=True)
            size = FIRST_STEP * (1 - step / steps)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    steep = 0.0 if slope is None else float(slope.norm())
                    if slope is not None and steep > 0:
                        parameter.sub_(slope, alpha=size * float(parameter.norm()) / steep)

    @torch.no_grad()
    def _answers(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        with evaluating(module), self.precision.autocast():
            return _numbers(module(*inputs))

    def _distance(self, module: nn.Module, known: Sequence[Answered]) -> float:
        """Mean over the batches; infinite where it is not a number."""
        apart = [_apart(self._answers(module, inputs), wanted) for inputs, wanted in known]
        mean = float(torch.stack(apart).mean())
        return math.inf if math.isnan(mean) else mean


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
