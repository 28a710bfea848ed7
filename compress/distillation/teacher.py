"""Who answers for the student to learn: a frozen network, or the answers that it gave before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.distillation.cache import AnswerCache
from compress.distillation.losses.top_kl import top_of
from compress.distillation.outputs import Seen, Top, observe
from compress.errors import UsageError
from compress.stage import Context
from compress.training.batches import to_torch
from compress.training.device import limited_threads
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.processes import gather_arrays

VIEW_SEED = 0
"""Views are the same for every seed of training, so that runs share the answers to them."""
CACHE_BATCH = 128
TOP_BATCH = 16
LEAST = -60_000
"""The logarithm of a probability that half precision can hold and that is nothing."""


class Teacher:
    """A network in evaluation mode that gets no gradients and never changes."""

    notes: tuple[str, ...] = ()
    """What was decided about it, in words, for the record."""

    def __init__(self, module: nn.Module) -> None:
        self.module: nn.Module | None = module.eval()

    def __call__(self, batch: TorchBatch, points: Sequence[str], progress: TrainingProgress) -> Seen | None:
        """Its answers to a batch, and what passed `points`; None while it has nothing to say."""
        assert self.module is not None
        with torch.no_grad():
            return observe(self.module, batch.inputs, points)

    def before_step(self, student: nn.Module, progress: TrainingProgress) -> None:
        """Called before each step: teachers that follow the student look at it here."""

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """The (seed, epoch) that the examples of an epoch are augmented by."""
        return seed, epoch

    def state_dict(self) -> dict[str, Any]:
        """What it keeps between steps, for checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""


class CachedTeacher(Teacher):
    """Answers from disk: view `epoch mod views` of each example, computed by the network when it is first needed.

    With a `temperature` these are the likeliest tokens of each position of a text (`top_computer`), out of a
    `vocabulary` of so many, else logits.
    """

    def __init__(
        self,
        module: nn.Module,
        cache: AnswerCache,
        views: int,
        context: Context,
        device: torch.device,
        temperature: float | None = None,
        vocabulary: int = 0,
    ) -> None:
        super().__init__(module)
        self.temperature, self.vocabulary = temperature, vocabulary
        self.cache, self.views, self.context, self.device = cache, views, context, device
        self._ready: set[int] = set()

    def __call__(self, batch: TorchBatch, points: Sequence[str], progress: TrainingProgress) -> Seen:
        """The kept answers in float32; there is nothing at points."""
        view = progress.epoch % self.views
        if view not in self._ready:
            self._prepare(view)
        found = {
            name: torch.from_numpy(array).to(self.device)
            for name, array in self.cache.answers(batch.indices.numpy(), view).items()
        }
        if self.temperature is None:
            return Seen(found["logits"].float())
        tokens = batch.targets.shape[1]
        kept = [found[name][:, :tokens] for name in ("indices", "log_probabilities", "log_rest")]
        top = Top(kept[0].long(), kept[1].float(), kept[2].float(), self.temperature, self.vocabulary)
        return Seen(torch.empty(0, device=self.device), top=top)

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """That of the epoch's view."""
        return VIEW_SEED, epoch % self.views

    def _prepare(self, view: int) -> None:
        """All shards of a view, each process making its part."""
        context, cache = self.context, self.cache
        own = range(context.rank, cache.shards, context.world_size)
        if context.world_size > 1 or not cache.has(view):
            with context.progress.task(
                f"the teacher's answers, view {view + 1} of {self.views}", cache.examples
            ) as advance:
                cache.prepare(view, own, advance)
        gather_arrays(np.zeros(1), context.world_size)  # all shards are written once every process has come here
        self._ready.add(view)


def answer_computer(
    module: nn.Module, data: Data, context: Context, device: torch.device, kind: torch.dtype = torch.float16
) -> Any:
    """A function (view, indices) -> the logits of the training examples of a view as `kind`, for `AnswerCache`.

    They are computed in full precision, whatever that of the training is.
    """

    def compute(view: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, np.ndarray[Any, Any]]:
        augment = (VIEW_SEED, view) if data.augmentation else None
        parts: list[Tensor] = []
        full = torch.autocast(device.type, enabled=False)
        with torch.no_grad(), full, limited_threads(context.threads):
            for start in range(0, len(indices), CACHE_BATCH):
                chosen = indices[start : start + CACHE_BATCH]
                batch = to_torch(data.batch(data.train, chosen, augment=augment), device)
                parts.append(module(*batch.inputs).to("cpu"))
        answers = torch.cat(parts)
        if float(answers.abs().max()) > torch.finfo(kind).max:
            raise UsageError(f"the teacher's answers are too large for {kind}: write `cache: off`")
        return {"logits": answers.to(kind).numpy()}

    return compute


def top_computer(
    module: nn.Module, data: Data, context: Context, device: torch.device, *, k: int, temperature: float, tokens: int
) -> Any:
    """A function (view, indices) -> the k likeliest tokens of each position of the texts, for `AnswerCache`.

    Every text takes `tokens` positions; those behind its end hold zeros. Views are those of `answer_computer`.
    """

    def compute(view: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, np.ndarray[Any, Any]]:
        wide = min(k, vocabulary(module, data, device))
        shape = (len(indices), tokens, wide)
        found: dict[str, np.ndarray[Any, Any]] = {
            "indices": np.zeros(shape, np.int32),
            "log_probabilities": np.zeros(shape, np.float16),
            "log_rest": np.zeros(shape[:2], np.float16),
        }
        with torch.no_grad(), torch.autocast(device.type, enabled=False), limited_threads(context.threads):
            for start in range(0, len(indices), TOP_BATCH):
                chosen = indices[start : start + TOP_BATCH]
                batch = to_torch(data.batch(data.train, chosen, augment=(VIEW_SEED, view)), device)
                parts = top_of(module(*batch.inputs), wide, temperature)
                rows = slice(start, start + len(chosen))
                for array, part in zip(found.values(), parts, strict=True):
                    array[rows, : part.shape[1]] = part.clamp_min(LEAST).cpu().numpy()
        return found

    return compute


def vocabulary(module: nn.Module, data: Data, device: torch.device) -> int:
    """How many tokens a network tells apart."""
    batch = to_torch(data.batch(data.train, np.arange(1)), device)
    with torch.no_grad():
        return int(module(*batch.inputs).shape[-1])
