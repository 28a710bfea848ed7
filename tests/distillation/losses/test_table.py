from __future__ import annotations

import torch

from compress.distillation.losses.cross_entropy import cross_entropy
from compress.distillation.losses.kl import kl
from compress.distillation.losses.mse import mse
from compress.distillation.losses.table import LOSSES, Answers
from compress.distillation.settings import LossTerm


def test_every_loss_that_yaml_can_name_is_in_the_table() -> None:
    assert set(LOSSES) == set(LossTerm.model_fields)


def test_settings_reach_the_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    targets = torch.tensor([0, 1, 2, 0])
    answers = Answers(student, teacher, targets, lambda outputs, wanted: outputs.sum() + wanted.sum())

    def value(term: object) -> float:
        read = LossTerm.model_validate(term)
        return LOSSES[read.name](read.settings, answers).item()

    assert value({"kl": {"temperature": 2}}) == kl(student, teacher, 2.0).item()
    assert value("kl") == kl(student, teacher, 4.0).item()
    assert value({"cross_entropy": {"label_smoothing": 0.1}}) == cross_entropy(student, targets, 0.1).item()
    assert value("mse") == mse(student, teacher).item()
    assert value("task") == (student.sum() + 3).item()
