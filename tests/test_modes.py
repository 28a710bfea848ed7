from __future__ import annotations

import pytest
from torch import nn

from compress.modes import evaluating


def test_parts_get_their_modes_back() -> None:
    parts = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    parts[0].eval()
    with evaluating(parts):
        assert not any(part.training for part in parts.modules())
    assert [part.training for part in parts.modules()] == [True, False, True]


def test_parts_get_their_modes_back_after_a_failure() -> None:
    part = nn.Dropout().train()
    with pytest.raises(ValueError, match="broken"), evaluating(part):
        raise ValueError("broken")
    assert part.training
