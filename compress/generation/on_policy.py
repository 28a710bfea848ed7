"""The student learns from what the teacher says of the student's own words (Agarwal et al. 2024, GKD, algorithm 1)."""

from __future__ import annotations

import random
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.collate import IGNORED, causal, sequence_to_sequence
from compress.data.dataset import Data
from compress.data.ragged import Ragged
from compress.data.splits import NO_CLASS
from compress.data.text import TextEncoder
from compress.errors import UsageError
from compress.generation.decode import Decoding, continued, network_of
from compress.generation.settings import OnPolicySettings
from compress.generation.step_by_step import StepByStep
from compress.generation.writer import ids_of
from compress.modes import evaluating
from compress.training.around import Around
from compress.training.method import Method, TorchBatch, TrainingProgress
from compress.training.randomness import derived_seed


class OnPolicy(Around):
    """In a share of the steps the answers of the batch are replaced by the student's own samples.

    Gradients do not go through the sampling. Of each example the prompt stays; of one without, the first half stands
    for it. Which steps these are, and what is sampled, follows from the seed, the step and the rank, so that a resumed
    run goes on as an undisturbed one.

    Args:
        inner: learns from the data's own answers.
        own: learns from the student's: what of `inner` needs no label.
        data: as the task has prepared them.
        settings: share and sampling.
        rank: of this process.

    Raises:
        UsageError: the task's networks do not write texts, or rationales are to be learnt as well.
    """

    def __init__(self, inner: Method, own: Method, data: Data, settings: OnPolicySettings, rank: int = 0) -> None:
        super().__init__(inner)
        self.own = own
        self.settings = settings
        self.rank = rank
        if isinstance(data.collate, StepByStep):
            raise UsageError("on_policy: the student's own samples have no rationales: set `rationale_weight: 0`")
        self.ids = ids_of(data)
        self.text = cast(TextEncoder, data.text)

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The inner loss, of the batch or of the student's own answers to it."""
        if not self.is_on(progress):
            return self.inner.loss(model, batch, progress)
        return self.own.loss(model, self.sampled(model, batch, progress), progress)

    def is_on(self, progress: TrainingProgress) -> bool:
        """Whether a step learns from samples: the same in all processes."""
        return random.Random(derived_seed(progress.seed, "on-policy", progress.step)).random() < self.settings.share

    def sampled(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> TorchBatch:
        """The batch with the student's samples for answers.

        Its targets say that a position counts (`NO_CLASS`) or not (`IGNORED`), and nothing of what is right there.
        """
        seed = derived_seed(progress.seed, "own samples", progress.step, self.rank)
        device = batch.targets.device
        network = network_of(model)
        mask = batch.inputs[1].cpu().numpy().astype(bool)
        rows = [row[there].tolist() for row, there in zip(batch.inputs[0].cpu().numpy(), mask, strict=True)]
        is_causal = self.ids.start is None
        prompts = self._prompts(rows, batch.targets) if is_causal else rows
        longest = self.settings.max_new_tokens
        if is_causal:
            longest = min(longest, self.text.max_length - max(map(len, prompts)))
        else:
            longest = min(longest, self.text.target_max_length or self.text.max_length)
        chosen = self.settings
        how = Decoding("sample", temperature=chosen.temperature, top_p=chosen.top_p, max_new_tokens=longest)
        with evaluating(network):
            found = continued(network, prompts, self.ids, how, seed=seed, device=device)
        if is_causal:
            whole = Ragged.of(prompt + answer for prompt, answer in zip(prompts, found, strict=True))
            *inputs, targets = causal(whole, self.ids.pad, np.array([len(prompt) for prompt in prompts]))
        else:
            assert self.ids.start is not None
            *inputs, targets = sequence_to_sequence(Ragged.of(rows), Ragged.of(found), self.ids.pad, self.ids.start)
        counted = np.where(targets == IGNORED, IGNORED, NO_CLASS)
        return TorchBatch(
            tuple(torch.from_numpy(array).to(device) for array in inputs),
            torch.from_numpy(counted).to(device),
            batch.indices,
        )

    def _prompts(self, rows: list[list[int]], targets: Tensor) -> list[list[int]]:
        """What stands before the first token that is learnt; the first half where nothing is a prompt."""
        if not self.text.answers:
            return [row[: max(1, len(row) // 2)] for row in rows]
        first = targets.ne(IGNORED).int().argmax(dim=1).tolist()
        return [row[: start + 1] for row, start in zip(rows, first, strict=True)]
