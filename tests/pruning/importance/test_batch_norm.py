from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.pruning.importance.batch_norm import batch_norm


def test_mean_size_of_a_units_gammas_over_its_norms() -> None:
    one, other = torch.randn(6), torch.randn(3)
    units = [torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([2, 0, 1])]
    found = batch_norm([one, other], units, 3)
    for unit in range(3):
        norms = zip((one, other), units, strict=True)
        sizes = [np.abs(scale.double().numpy()[held.numpy() == unit]).mean() for scale, held in norms]
        assert found[unit].item() == pytest.approx(np.mean(sizes), rel=1e-12)


def test_a_channel_that_its_norm_switches_off_is_worth_nothing() -> None:
    assert batch_norm([torch.tensor([0.0, -0.5])], [torch.tensor([0, 1])], 2).tolist() == [0.0, 0.5]
