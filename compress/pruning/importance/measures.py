"""The table of measures: how each weighs units, and how its values compare between groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from compress.pruning.groups import Group
from compress.pruning.importance.by_examples import activation_scores, hessian_scores, taylor_scores
from compress.pruning.importance.score import (
    LabelledBatch,
    Loss,
    batch_norm_scores,
    fpgm_scores,
    lamp_scores,
    magnitude_scores,
    random_scores,
)
from compress.pruning.settings import Importance


def no_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Stands where no loss was given."""
    raise ValueError("this importance needs a loss")


@dataclass(frozen=True)
class Given:
    """What a measure may read besides the network and its groups.

    `practice` are examples to train choices on for a moment, and `precision` that in which they compute.
    """

    batches: Sequence[LabelledBatch] = ()
    loss: Loss = no_loss
    norm: int = 2
    seed: int = 0
    practice: Sequence[LabelledBatch] = ()
    precision: str = "fp32"


@dataclass(frozen=True)
class Measure:
    """One measure of what units are worth.

    `comparable` says how scores compare with other groups': as they are, over the mean of their group, or, where all
    groups compete, over the root of what a unit saves. What reads examples has to look anew when some units are gone.

    Optimal brain damage compares as it is, weight by weight; whole units do better over the mean of their group: three
    small ResNets trained on digits, at half of their MACs and not trained, kept 62 instead of 36 % accuracy so (random
    36 %, `taylor` 67 %), three plain convolutional networks 49 instead of 42 %.
    """

    score: Callable[[nn.Module, Sequence[Group], Given], dict[str, Tensor]]
    comparable: Literal["as is", "normalised", "per saving"]
    reads: Literal["weights", "examples", "examples and loss"] = "weights"

    def looks(self, rounds: int) -> int:
        """How often it is worth a look where `rounds` are asked: weights do not change with what is gone."""
        return 1 if self.reads == "weights" else rounds


MEASURES: Mapping[Importance, Measure] = {
    "taylor": Measure(
        lambda net, groups, given: taylor_scores(net, groups, given.batches, given.loss),
        "per saving", "examples and loss",
    ),
    "magnitude": Measure(lambda net, groups, given: magnitude_scores(net, groups, given.norm), "normalised"),
    "batch_norm": Measure(lambda net, groups, given: batch_norm_scores(net, groups), "as is"),
    "hessian": Measure(
        lambda net, groups, given: hessian_scores(net, groups, given.batches, given.loss),
        "normalised", "examples and loss",
    ),
    "fpgm": Measure(lambda net, groups, given: fpgm_scores(net, groups), "normalised"),
    "lamp": Measure(lambda net, groups, given: lamp_scores(net, groups), "as is"),
    "activation": Measure(
        lambda net, groups, given: activation_scores(net, groups, given.batches), "normalised", "examples"
    ),
    "random": Measure(lambda net, groups, given: random_scores(groups, given.seed), "as is"),
}  # fmt: skip
