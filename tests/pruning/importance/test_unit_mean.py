from __future__ import annotations

import pytest
import torch

from compress.pruning.importance.unit_mean import unit_mean


def test_channels_are_averaged_in_a_place_before_places_are() -> None:
    values = [torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([10.0, 20.0])]
    units = [torch.tensor([0, 1, 1, 1]), torch.tensor([1, 0])]
    assert unit_mean(values, units, 2).tolist() == pytest.approx([(1 + 20) / 2, (5 + 10) / 2])


def test_places_that_do_not_hold_a_unit_do_not_count() -> None:
    found = unit_mean([torch.tensor([2.0]), torch.tensor([4.0, 6.0])], [torch.tensor([0]), torch.tensor([0, 2])], 3)
    assert found[[0, 2]].tolist() == [3.0, 6.0]
    assert found[1].isnan()
    assert unit_mean([], [], 2).isnan().all()
