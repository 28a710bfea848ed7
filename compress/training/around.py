"""A way to train that stands around another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compress.training.method import Method, TorchBatch, TrainingProgress


class Around(Method):
    """Everything is the inner method's; classes that inherit from it change what they must."""

    def __init__(self, inner: Method) -> None:
        self.inner = inner

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The inner method's."""
        return self.inner.loss(model, batch, progress)

    def modules(self) -> nn.Module | None:
        """The inner method's."""
        return self.inner.modules()

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        """The inner method's."""
        self.inner.before_step(model, progress)

    def after_backward(self, progress: TrainingProgress) -> None:
        """The inner method's."""
        self.inner.after_backward(progress)

    def after_step(self, progress: TrainingProgress) -> None:
        """The inner method's."""
        self.inner.after_step(progress)

    def train_mode(self, model: nn.Module) -> None:
        """The inner method's."""
        self.inner.train_mode(model)

    def eval_mode(self, model: nn.Module) -> None:
        """The inner method's."""
        self.inner.eval_mode(model)

    def may_keep(self, progress: TrainingProgress) -> bool:
        """The inner method's."""
        return self.inner.may_keep(progress)

    @property
    def needs_labels(self) -> bool:
        """The inner method's."""
        return self.inner.needs_labels

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """The inner method's."""
        return self.inner.augmentation(seed, epoch)

    def state_dict(self) -> dict[str, Any]:
        """The inner method's."""
        return self.inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inner method's."""
        self.inner.load_state_dict(state)
