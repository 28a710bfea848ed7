from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.dependency import trace_groups

Make = Callable[[str], nn.Module]


def _layers(name: str, network: Make, example: Tensor) -> dict[str, dict[tuple[str, str], tuple[int, ...]]]:
    groups, _ = trace_groups(network(name), [example])
    return {group.name: {(m.path, m.axis): m.indices for m in group.members} for group in groups}


def test_concatenation_is_read_with_its_offsets(network: Make, example: Tensor) -> None:
    found = _layers("encoder_decoder", network, example)
    assert found["up"][("decoder.0", "in")] == tuple(range(16))
    assert found["encoder.0"][("decoder.0", "in")] == tuple(range(16, 32))
    assert ("middle.1", "in") in found["encoder.0"]


def test_residual_layers_are_one_group(network: Make, example: Tensor) -> None:
    found = _layers("resnet_b", network, example)
    stage = {path for path, axis in found["layer2.0.conv2"] if axis == "out"}
    assert stage >= {"layer2.0.conv2", "layer2.1.conv2", "layer2.0.shortcut.0"}
    assert len(found["layer2.0.conv1"]) == 3  # itself, its norm, and what reads it


def test_shortcut_without_weights_does_not_couple_its_sides(network: Make, example: Tensor) -> None:
    found = _layers("resnet_a", network, example)
    assert ("layer2.0.shortcut", "in") in found["conv1"]
    assert ("layer2.0.shortcut", "out") in found["layer2.0.conv2"]
    assert ("layer2.0.conv2", "out") not in found["conv1"]


def test_output_layer_is_fixed(network: Make, example: Tensor) -> None:
    _, fixed = trace_groups(network("tied"), [example])
    assert fixed == {"head": "its channels are the network's output"}


def test_the_network_is_left_as_it_was(network: Make, example: Tensor) -> None:
    module = network("tied").train().requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trace_groups(module, [example])
    assert module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


class _Blind(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.layer(x).detach()
        return self.head(y)  # type: ignore[no-any-return]


def test_what_hides_from_autograd_is_seen() -> None:
    groups, _ = trace_groups(_Blind(), [torch.randn(2, 3)])
    assert [(group.name, group.units) for group in groups] == [("layer", 4)]


def test_a_network_that_does_not_fit_its_input_is_refused() -> None:
    with pytest.raises(UsageError, match=r"fails on an example of shape \(2, 5\)"):
        trace_groups(_Blind(), [torch.randn(2, 5)])


def test_layers_that_cannot_lose_channels_are_named() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.lstm, self.head = nn.Linear(3, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(self.before(x))[0])  # type: ignore[no-any-return]

    _, fixed = trace_groups(Recurrent(), [torch.randn(2, 4, 3)])
    assert "lstm (LSTM)" in fixed["before"]


def test_a_table_that_two_layers_share_is_cut_in_both() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.middle, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            y = self.table(x)
            return self.head(y + self.middle(y))  # type: ignore[no-any-return]

    groups, fixed = trace_groups(Tied(), [torch.zeros(2, 3, dtype=torch.int64)])
    [group] = groups
    assert {(member.path, member.axis) for member in group.members} == {
        ("table", "out"), ("middle", "in"), ("middle", "out"), ("head", "in"),
    }  # fmt: skip
    assert fixed == {"head": "its channels are the network's output"}


@pytest.mark.parametrize(
    "middle",
    [
        lambda h: h[h > 0].mean() + h,
        lambda h: h.mean((2, 3))[h.mean((2, 3)) > -9].sum() + h,
        lambda h: torch.frexp(h)[0],
        lambda h: 0 * h.view(torch.int32).float() + h,
    ],
    ids=["mask", "narrower mask", "frexp", "another type"],
)
def test_an_operator_used_in_a_way_that_no_rule_knows_is_no_error(middle: Callable[[Tensor], Tensor]) -> None:
    class Using(nn.Module):
        """Between a layer and the next."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.next = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.next(middle(self.layer(x)))  # type: ignore[no-any-return]

    groups, fixed = trace_groups(Using(), [torch.randn(2, 3, 9, 9)])
    assert {*(group.name for group in groups), *fixed} == {"layer", "next"}
    assert "next" in fixed
