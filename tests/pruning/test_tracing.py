"""What the trace says of single operators, against what happens if a channel of the first layer is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.pruning.tracing import run

WIDTH = 12


class Between(nn.Module):
    """A layer of 12 channels, an operator on its result (2, 12, 4, 4), and a layer that reads what comes of it."""

    def __init__(self, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 1)
        self.operator = operator
        size = operator(torch.zeros(2, WIDTH, 4, 4)).shape[1]
        self.last = nn.Linear(size, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.operator(self.first(x))
        return self.last(y.flatten(2).movedim(1, -1) if y.dim() > 2 else y)  # type: ignore[no-any-return]


def _shuffle(x: Tensor) -> Tensor:
    return x.view(2, 3, 4, 4, 4).transpose(1, 2).reshape(2, 12, 4, 4)


FOLLOWED: dict[str, Callable[[Tensor], Tensor]] = {
    "same": lambda x: x.relu_(),
    "flattened": lambda x: x.flatten(1),
    "transposed twice": lambda x: x.permute(0, 2, 3, 1).transpose(1, 3).transpose(2, 3),
    "doubled": lambda x: torch.cat([x, x], dim=1),
    "padded in space": lambda x: functional.pad(x, (1, 1, 2, 0)),
    "pooled": lambda x: functional.max_pool2d(x, 2),
    "averaged over space": lambda x: x.mean((2, 3)),
    "pooled in one dimension": lambda x: functional.adaptive_avg_pool1d(x.flatten(2), 1).flatten(1),
    "enlarged": lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "shuffled": _shuffle,
    "repeated": lambda x: x.repeat(1, 3, 1, 1),
    "expanded": lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1, -1).reshape(2, 24, 4, 4),
    "chunked": lambda x: torch.cat([part * 2 for part in x.chunk(3, dim=1)], dim=1),
    "gated": lambda x: functional.glu(x, dim=1),
    "every second": lambda x: x[:, ::2] + x[:, 1::2],
    "by pixels": lambda x: functional.pixel_shuffle(x, 2),
    "from pixels": lambda x: functional.pixel_unshuffle(x, 2),
    "with constants": lambda x: x + torch.ones(x.shape[1], 1, 1),
    "unbound in space": lambda x: torch.stack(x.unbind(3), 3),
    "wherever": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "hard swish": functional.hardswish,
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_a_reader_reads_belongs_to_the_channels_that_influence_it(name: str) -> None:
    module = Between(FOLLOWED[name]).eval()
    x = torch.randn(2, 3, 4, 4)
    trace = run(module, [x])
    written, read = trace.leaves["first.weight"][0], trace.leaves["last.weight"][1]
    assert isinstance(written, np.ndarray) and isinstance(read, np.ndarray)
    assert not any(trace.labels.reasons(written)), trace.labels.reasons(written)
    roots, readers = trace.labels.roots(written).tolist(), trace.labels.roots(read).tolist()
    for channel in range(WIDTH):
        assert _influenced(module, x, channel) <= {
            place for place, root in enumerate(readers) if root == roots[channel]
        }
    assert len(set(roots)) >= 3
    assert set(readers) == set(roots)


def _influenced(module: Between, x: Tensor, channel: int) -> set[int]:
    """Inputs of the last layer that change if a channel of the first one does."""
    seen: list[Tensor] = []
    handle = module.last.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    with torch.no_grad():
        module(x)
        module.first.weight[channel] += 1.5
        module.first.bias[channel] -= 0.7  # type: ignore[index]
        module(x)
        module.first.weight[channel] -= 1.5
        module.first.bias[channel] += 0.7  # type: ignore[index]
    handle.remove()
    changed = (seen[0] - seen[1]).abs().flatten(0, -2).amax(0) > 1e-6
    return set(changed.nonzero().flatten().tolist())


FIXED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "averaged": (lambda x: x - x.mean(1, keepdim=True), "averaged"),
    "softmax": (lambda x: x.softmax(1), "averaged"),
    "a slice of five": (lambda x: x[:, :5], "sliced at fixed places"),
    "unequal parts": (lambda x: torch.cat(torch.split(x, [5, 7], dim=1)[::-1], dim=1), "sliced at fixed places"),
    "one of them": (lambda x: x + x[:, 3:4] * x[:, 0].unsqueeze(1), "picked"),
    "in another order": (lambda x: x[:, torch.arange(11, -1, -1)], "picked"),
    "turned round": (lambda x: x.flip(1), "picked"),
    "unknown": (lambda x: x.cumprod(1), "cannot lose channels"),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_depends_on_the_number_of_channels_is_fixed(name: str) -> None:
    operator, reason = FIXED[name]
    trace = run(Between(operator), [torch.randn(2, 3, 4, 4)])
    written: Any = trace.leaves["first.weight"][0]
    found = trace.labels.reasons(written)
    assert all(found)
    assert any(reason in text for text in found), found


def test_the_network_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    run(module, [torch.randn(2, 3, 4, 4)])
    assert [part.training for part in module.modules()] == [True, True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
