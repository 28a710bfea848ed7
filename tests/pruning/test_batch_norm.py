from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.pruning.batch_norm import reestimate


def _module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm1d(4))


def test_statistics_are_the_average_over_batches() -> None:
    module = _module().eval()
    batches = [(torch.randn(8, 3),) for _ in range(5)]
    assert reestimate(module, batches) == 2
    with torch.no_grad():
        hidden = [module[0](x) for (x,) in batches]
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.stack([h.var(0) for h in hidden]).mean(0), atol=1e-6)
    assert norm.num_batches_tracked == torch.tensor(5)


def test_what_came_before_does_not_matter_and_all_else_stays() -> None:
    module = _module().train()
    weights = {name: value.clone() for name, value in module.named_parameters()}
    batches = [(torch.randn(8, 3),) for _ in range(3)]
    reestimate(module, batches)
    first = {name: value.clone() for name, value in module.state_dict().items()}
    reestimate(module, batches)
    assert all(torch.equal(value, first[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(value, weights[name]) for name, value in module.named_parameters())
    assert all(part.training for part in module.modules())
    assert isinstance(module[1], nn.BatchNorm1d)
    assert module[1].momentum == 0.3


def test_no_batches_are_refused_unless_there_is_nothing_to_estimate() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        reestimate(_module(), [])
    assert reestimate(nn.Linear(2, 2), []) == 0


def test_a_norm_that_does_not_run_keeps_what_it_has() -> None:
    class TwoWays(nn.Module):
        """Runs one of two norms."""

        def __init__(self) -> None:
            super().__init__()
            self.used, self.other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.other(x) if self.training else self.used(x)
            return found

    module = TwoWays().train()
    for _ in range(3):
        module(torch.randn(8, 3) + 5)
    before = {name: tensor.clone() for name, tensor in module.other.state_dict().items()}
    reestimate(module, [(torch.randn(8, 3) - 5,)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.other.state_dict().items())
    assert module.used.running_mean is not None and (module.used.running_mean < -3).all()
