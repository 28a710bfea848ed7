"""Sparse learning: before anything is cut, training pulls whole units towards zero, the least important ones most.

Fang, Ma, Song, Bi Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv:2301.12900), equation 5. The
penalty of a network is weight * sum over groups g and their units k of strength_gk * |W_g[k]|^2, where W_g[k] are all
the weights that would go with the unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.pruning.groups import Group
from compress.pruning.importance.magnitude import magnitude
from compress.pruning.importance.score import Sliced
from compress.pruning.stage import Sparse
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.fit import fit
from compress.training.log import FitLog
from compress.training.method import Supervised, TaskLoss, TrainingProgress

ALPHA = 4.0
"""The smallest unit of a group is pulled 2^4 times as strongly as the largest, as in the paper."""
_STRENGTHS = "strengths."


def learn_sparsely(
    module: nn.Module, data: Data, task: Task, groups: Sequence[Group], settings: Sparse, context: Context
) -> FitLog:
    """Train `module` in place on the task's loss and the penalty over `groups`.

    Raises:
        UsageError: as `fit` does.
        StageError: as `fit` does.
    """
    return fit(module, data, task, SparseLearning(task, groups, settings.weight), settings, context=context)


class SparseLearning(Supervised):
    """Plain training, with the gradient of the penalty added to that of the loss.

    How strongly each unit is pulled is settled anew at each epoch's start. Parameters that get no gradient from the
    loss get none from the penalty.
    """

    def __init__(self, task: TaskLoss, groups: Sequence[Group], weight: float) -> None:
        super().__init__(task)
        self.groups, self.weight = groups, weight
        self.epoch = -1
        self.strengths: dict[str, Tensor] = {}
        self._pulls: list[tuple[nn.Parameter, Tensor]] = []

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        """Settle the strengths of an epoch that begins; a resumed one goes on with its own."""
        if progress.epoch == self.epoch and self._pulls:
            return
        parts = {group.name: Sliced(model, group) for group in self.groups}
        if progress.epoch != self.epoch:
            self.epoch = progress.epoch
            self.strengths = {name: strengths(squared_norms(part)) for name, part in parts.items()}
        self._pulls = pulls([(part, self.strengths[name]) for name, part in parts.items()], self.weight)

    @torch.no_grad()
    def after_backward(self, progress: TrainingProgress) -> None:
        """Add the gradient of the penalty: that of the loss is summed over all processes by now, and unscaled."""
        for parameter, pull in self._pulls:
            if parameter.grad is not None:
                parameter.grad.addcmul_(parameter, pull)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and its strengths, which follow from weights that are gone."""
        return {"epoch": self.epoch, **{_STRENGTHS + name: tensor for name, tensor in self.strengths.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.epoch, self._pulls = state["epoch"], []
        named = {name: tensor for name, tensor in state.items() if name.startswith(_STRENGTHS)}
        self.strengths = {name.removeprefix(_STRENGTHS): tensor for name, tensor in named.items()}


def squared_norms(part: Sliced) -> Tensor:
    """|W[k]|^2 of each unit of a group, float64 (units,)."""
    return magnitude(part.rows(part.tensors), part.units, part.count, 2).square()


def strengths(sizes: Tensor, alpha: float = ALPHA) -> Tensor:
    """How strongly each unit of a group is pulled: 2^(alpha (max - size) / (max - min)), in [1, 2^alpha].

    Args:
        sizes: squared norms of the units, float64 (units,).
        alpha: the largest strength, as a power of 2.
    """
    spread = sizes.max() - sizes.min()
    if not spread > 0:  # no unit is less than another
        return torch.ones_like(sizes)
    return torch.exp2(alpha * (sizes.max() - sizes) / spread)


def pulls(parts: Iterable[tuple[Sliced, Tensor]], weight: float) -> list[tuple[nn.Parameter, Tensor]]:
    """For each parameter of the groups, once, the factor that makes it the gradient of the penalty.

    The derivative of weight * strength * w^2 is 2 * weight * strength * w, and strengths count as constants. A weight
    between two groups is pulled by both.

    Args:
        parts: groups, each with the strengths of its units, (units,).
        weight: of the penalty.

    Returns:
        (parameter, factor): the factor has the parameter's shape, and is 0 where it is in no group.
    """
    found: dict[int, tuple[nn.Parameter, Tensor]] = {}
    for part, strength in parts:
        numbers = [torch.arange(t.numel(), device=t.device).view(t.shape) for t in part.tensors]
        for tensor, units, places in zip(part.tensors, part.units, part.rows(numbers), strict=True):
            zeros = torch.zeros_like(tensor, requires_grad=False, memory_format=torch.contiguous_format)
            _, factor = found.setdefault(id(tensor), (tensor, zeros))
            of_slices = (2 * weight * strength[units.to(strength.device)]).to(factor)
            factor.view(-1)[places] += of_slices[:, None]  # the places of one axis are all different
    return list(found.values())
