from __future__ import annotations

import pytest
import torch

from compress.distillation.losses.mse import mse


def test_it_is_the_mean_square() -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert mse(student, teacher).item() == (4 + 9) / 4
    assert mse(teacher, teacher).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_squared_in_float32(dtype: torch.dtype) -> None:
    """320^2 is more than fp16 holds."""
    found = mse(torch.full((2, 3), 320.0, dtype=dtype), torch.zeros(2, 3, dtype=dtype))
    assert found.dtype == torch.float32
    assert found.item() == 102_400
