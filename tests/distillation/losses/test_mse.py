from __future__ import annotations

import torch

from compress.distillation.losses.mse import mse


def test_it_is_the_mean_square() -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert mse(student, teacher).item() == (4 + 9) / 4
    assert mse(teacher, teacher).item() == 0
