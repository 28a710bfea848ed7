"""The two networks between which terms are placed, run once so that shapes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.distillation.layout import Shapes, Transformer, embedding_point, matching, shapes_at, stage_points
from compress.distillation.layout import transformer as transformer_of
from compress.distillation.loss_settings import Globs
from compress.errors import UsageError
from compress.tasks.task import Task


@dataclass(frozen=True)
class Side:
    """One of the networks, with inputs to try it on; `name` is `student` or `teacher`, for messages."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]

    @classmethod
    def of(cls, name: str, module: nn.Module, data: Data) -> Side:
        """The network with the first two training examples."""
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        batch = data.batch(data.train, np.arange(min(2, len(data.train))))
        return cls(name, module, tuple(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in batch.inputs))

    def points(self, loss: str, globs: Globs | None) -> tuple[str, ...]:
        """The modules that the globs match; without any, the last of each resolution or the transformer's layers."""
        if globs is not None:
            return matching(self.module, globs, f"losses: {loss}.{self.name}")
        if self.transformer is not None:
            return self.transformer.layers
        found = stage_points(self.module, self.inputs)
        if not found:
            raise UsageError(
                f"losses: {loss} finds no feature maps in the {self.name}: name its modules as `{self.name}:`"
            )
        return found

    def last_point(self, loss: str, globs: Globs | None) -> str:
        """The one module that the globs match; without any, what the last linear layer reads."""
        if globs is None:
            return embedding_point(self.module)
        found = matching(self.module, globs, f"losses: {loss}.{self.name}")
        if len(found) != 1:
            raise UsageError(f"losses: {loss}.{self.name} must match one module; it matches {', '.join(found)}")
        return found[0]

    def shapes(self, points: Sequence[str]) -> Shapes:
        """The shape of what is at the points, without the batch axis."""
        return shapes_at(self.module, self.inputs, points)

    @cached_property
    def transformer(self) -> Transformer | None:
        """The layers, if the network is a transformer."""
        return transformer_of(self.module)

    def needs_transformer(self, loss: str) -> Transformer:
        """The layers of a network that must be a transformer.

        Raises:
            UsageError: it is none.
        """
        if self.transformer is None:
            raise UsageError(f"losses: {loss} needs a transformer with query, key and value layers; the {self.name} "
                             "has none that can be found")  # fmt: skip
        return self.transformer


@dataclass(frozen=True)
class Site:
    """Where terms are placed: both networks, the task, the number of training examples and their classes, the seed."""

    student: Side
    teacher: Side
    task: Task
    examples: int
    classes: Tensor | None
    seed: int

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it, by the task or in the student itself."""
        student = self.student.transformer
        return self.task.name == "causal-lm" or (student is not None and student.causal)

    def paired(self, loss: str, student: Globs | None, teacher: Globs | None) -> tuple[tuple[str, ...], ...]:
        """The points of both, as many of each.

        Raises:
            UsageError: they are not as many.
        """
        own, theirs = self.student.points(loss, student), self.teacher.points(loss, teacher)
        if len(own) != len(theirs):
            raise UsageError(
                f"losses: {loss} pairs modules of the student ({', '.join(own)}) with as many of the teacher "
                f"({', '.join(theirs)}): name them as `student:` and `teacher:`"
            )
        return own, theirs
