from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.distillation.losses.probabilities import log_probabilities


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_its_definition(temperature: float) -> None:
    logits = 3 * np.random.default_rng(0).normal(size=(6, 10))
    powers = np.exp(logits / temperature)
    expected = np.log(powers / powers.sum(1, keepdims=True))
    found = log_probabilities(torch.from_numpy(logits), temperature)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_before_anything_is_rounded(kind: torch.dtype) -> None:
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)).to(kind)
    found = log_probabilities(logits, 3.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, log_probabilities(logits.float(), 3.0), rtol=0, atol=0)


def test_extreme_logits_stay_finite() -> None:
    found = log_probabilities(torch.tensor([[1e4, -1e4]]), 1.0)
    assert found.tolist() == [[0.0, -2e4]]
