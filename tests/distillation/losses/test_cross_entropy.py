from __future__ import annotations

import pytest
import torch

from compress.distillation.losses.cross_entropy import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_its_definition(smoothing: float) -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    soft = torch.full((7, 5), smoothing / 5, dtype=torch.float64)
    soft[torch.arange(7), targets] += 1 - smoothing
    expected = -(soft * (logits - logits.logsumexp(1, keepdim=True))).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, targets, smoothing), expected)
