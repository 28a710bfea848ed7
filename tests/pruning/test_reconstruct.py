from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.pruning import reconstruct as module_of_reconstruct
from compress.pruning.batch_norm import reestimate
from compress.pruning.groups import Group
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.prunable import prunable_groups
from compress.pruning.reconstruct import RIDGES, reconstruct
from compress.pruning.surgery import cut, removed_channels

Make = Callable[[str], nn.Module]
SHAPES: dict[str, tuple[Callable[[], nn.Module], nn.Module, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 12), nn.Linear(12, 4), (6,)),
    "linear without bias": (lambda: nn.Linear(6, 12), nn.Linear(12, 4, bias=False), (6,)),
    "tokens": (lambda: nn.Linear(6, 12), nn.Linear(12, 4), (5, 6)),
    "convolution": (lambda: nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1), (3, 7, 7)),
    "stride and dilation": (
        lambda: nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 3, stride=2, padding=2, dilation=2), (3, 9, 9),
    ),
    "padding by a word": (lambda: nn.Conv1d(3, 12, 3), nn.Conv1d(12, 4, 3, padding="same"), (3, 11)),
    "mirrored": (
        lambda: nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1, padding_mode="reflect"), (3, 7, 7),
    ),
    "grouped": (lambda: nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1, groups=2), (3, 7, 7)),
    "transposed": (lambda: nn.Conv2d(3, 12, 3, padding=1), nn.ConvTranspose2d(12, 4, 2, stride=2), (3, 7, 7)),
    "three dimensions": (lambda: nn.Conv3d(2, 12, 1), nn.Conv3d(12, 4, 2), (2, 4, 4, 4)),
}  # fmt: skip


def batches_of(size: tuple[int, ...], count: int = 8, each: int = 16) -> list[LabelledBatch]:
    draw = torch.Generator().manual_seed(7)
    return [((torch.randn(each, *size, generator=draw),), torch.zeros(each)) for _ in range(count)]


def chain(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    make, reader, size = SHAPES[name]
    return nn.Sequential(make(), nn.ReLU(), copy.deepcopy(reader)).eval(), size


def first_group(module: nn.Module, size: tuple[int, ...]) -> Group:
    groups, _ = prunable_groups(module, [torch.randn(2, *size)])
    return next(group for group in groups if group.name == "0")


def without(module: nn.Module, group: Group, units: list[int]) -> nn.Module:
    pruned = copy.deepcopy(module)
    cut(pruned, [group], {group.name: units})
    return pruned


def distance(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((one(x) - other(x)).square().sum())


@pytest.mark.parametrize("name", SHAPES)
def test_a_copy_of_a_channel_that_stays_takes_over_all(name: str) -> None:
    """Channels 0, 1, 2, ... of each half are those of its other half: to lose one of both changes nothing."""
    module, size = chain(name)
    group = first_group(module, size)
    writer: Any = module.get_submodule("0")
    half = group.units // 2
    channels = removed_channels([group], {group.name: list(range(half))})["0", "out"]
    others = sorted(set(range(12)) - channels)
    with torch.no_grad():
        writer.weight[sorted(channels)] = writer.weight[others]
        writer.bias[sorted(channels)] = writer.bias[others]
    x = torch.randn(4, *size)
    plain = without(module, group, list(range(half)))
    changed = copy.deepcopy(module)
    errors = reconstruct(changed, [group], {group.name: list(range(half))}, batches_of(size))
    after = without(changed, group, list(range(half)))
    assert list(errors) == ["2"] and errors["2"] < 1e-5
    # the weakest ridge of 1e-4 keeps about so much of a duplicate's work back: its square is what is compared
    assert distance(module, after, x) < 1e-5 * distance(module, plain, x)


def test_it_is_the_ridge_regression_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_reconstruct, "RIDGES", RIDGES[:1])
    monkeypatch.setattr(module_of_reconstruct, "ROWS", 10**6)
    module, size = chain("linear")
    given, gone = batches_of(size), [1, 4, 5]
    left = [channel for channel in range(12) if channel not in gone]
    fitted = torch.cat([inputs[0] for number, (inputs, _) in enumerate(given) if number % 4 != 3])
    with torch.no_grad():
        hidden = torch.relu(module.get_submodule("0")(fitted)).double().numpy()
    known = np.hstack([hidden[:, left], np.ones((len(hidden), 1))])
    strength = RIDGES[0] * np.mean(np.sum(known**2, axis=0))
    rows = np.vstack([known, np.sqrt(strength) * np.eye(known.shape[1])])
    shares = np.linalg.lstsq(rows, np.vstack([hidden[:, gone], np.zeros((known.shape[1], 3))]), rcond=None)[0]
    reader: Any = module.get_submodule("2")
    weight, bias = reader.weight.detach().double().numpy().copy(), reader.bias.detach().double().numpy().copy()
    reconstruct(module, [first_group(module, size)], {"0": gone}, given)
    np.testing.assert_allclose(
        reader.weight.detach().numpy()[:, left], weight[:, left] + weight[:, gone] @ shares[:-1].T, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(reader.bias.detach().numpy(), bias + weight[:, gone] @ shares[-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_left_of_the_error_is_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the layer's outputs over that of the plain cut, on the batches that were not fitted to."""
    monkeypatch.setattr(module_of_reconstruct, "ROWS", 10**6)
    monkeypatch.setattr(module_of_reconstruct, "CHECKS", 10**6)
    module, size = chain(name)
    group, units = first_group(module, size), [0, 2]
    given = batches_of(size)
    changed = copy.deepcopy(module)
    [error] = reconstruct(changed, [group], {group.name: units}, given).values()
    assert 0 < error < 1
    x = torch.cat([inputs[0] for inputs, _ in given[3::4]])
    found = distance(module, without(changed, group, units), x) / distance(module, without(module, group, units), x)
    if name != "transposed":  # there it is of each place's share of the outputs, before shares are added up
        assert found == pytest.approx(error, rel=2e-3)
    assert found < 1


def trained() -> tuple[nn.Module, list[LabelledBatch], Tensor, Tensor]:
    """A network with batch norms that has learnt digits, examples of its training, and other images and labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16, torch.from_numpy(labels)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.003)
    for step in range(200):
        at = torch.arange(64) + step * 64 % 1200
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[at]), y[at]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    given: list[LabelledBatch] = [((x[start : start + 8],), y[start : start + 8]) for start in range(0, 256, 8)]
    return module.eval(), given, x[1300:], y[1300:]


def test_a_trained_network_loses_less() -> None:
    """Half of all channels go, at random, and nothing is trained afterwards: loss on images that nobody has seen."""
    module, given, x, y = trained()
    groups, _ = prunable_groups(module, [x[:2]])
    for seed in range(4):
        draw = np.random.default_rng(seed)
        removed = {group.name: draw.permutation(group.units)[: group.units // 2].tolist() for group in groups}
        losses = []
        for examples in ([], given):
            pruned = copy.deepcopy(module)
            reconstruct(pruned, groups, removed, examples)
            cut(pruned, groups, removed)
            reestimate(pruned, (inputs for inputs, _ in given))
            with torch.no_grad():
                losses.append(float(nn.functional.cross_entropy(pruned(x), y)))
        assert losses[1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["group_norm", "transformer"])
def test_a_network_answers_more_like_before(name: str, network: Make) -> None:
    """Mean over what goes, on examples that were not looked at."""
    module = network(name)
    given, fresh = batches_of((3, 16, 16), 32, 8), torch.randn(64, 3, 16, 16)
    groups, _ = prunable_groups(module, [fresh[:2]])
    plain, better = 0.0, 0.0
    for seed in range(3):
        draw = np.random.default_rng(seed)
        removed = {g.name: draw.permutation(g.units)[: g.units // 4].tolist() for g in groups if g.units >= 4}
        changed = copy.deepcopy(module)
        errors = reconstruct(changed, groups, removed, given)
        assert errors and all(0 <= error <= 1 for error in errors.values())
        for pruned in (module, changed):
            shorter = copy.deepcopy(pruned)
            cut(shorter, groups, removed)
            miss = distance(module, shorter, fresh)
            plain, better = (plain + miss, better) if pruned is module else (plain, better + miss)
    assert better < plain


def test_channels_that_are_read_with_weights_of_zero_change_nothing(network: Make) -> None:
    module = network("resnet_a")
    groups, _ = prunable_groups(module, [torch.randn(2, 3, 16, 16)])
    removed = {group.name: [0, 1] for group in groups}
    with torch.no_grad():
        for (path, axis), channels in removed_channels(groups, removed).items():
            if axis == "in":
                layer: Any = module.get_submodule(path)
                if hasattr(layer, "weight"):
                    layer.weight[:, sorted(channels)] = 0
    before = copy.deepcopy(module.state_dict())
    reconstruct(module, groups, removed, batches_of((3, 16, 16)))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_layers_in_turns_come_to_the_same(network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for least in (2**30, 1):
        monkeypatch.setattr(module_of_reconstruct, "LEAST_BYTES", least)
        module = network("resnet_b")
        groups, _ = prunable_groups(module, [torch.randn(2, 3, 16, 16)])
        reconstruct(module, groups, {group.name: [0, 1] for group in groups}, batches_of((3, 16, 16)))
        found.append(module.state_dict())
    assert any(not torch.equal(network("resnet_b").state_dict()[name], value) for name, value in found[0].items())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5)


def test_blocks_that_go_are_passed_by(network: Make) -> None:
    module = network("resnet_a")
    groups, _ = prunable_groups(module, [torch.randn(2, 3, 16, 16)])
    paths = [name for name, _ in module.named_modules() if name.endswith(".1")]
    errors = reconstruct(
        module, groups, {group.name: [0, 1] for group in groups}, batches_of((3, 16, 16)), dropped=paths[:1]
    )
    assert errors and not any(path.startswith(f"{paths[0]}.") for path in errors)


def test_weights_that_two_layers_share_stay() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.up = nn.Embedding(20, 12), nn.Linear(12, 16)
            self.down, self.head = nn.Linear(16, 12), nn.Linear(12, 20, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Tensor) -> Any:
            y = self.embedding(x)
            return self.head(y + self.down(torch.relu(self.up(y))))

    module = Tied().eval()
    texts: list[LabelledBatch] = [((torch.randint(0, 20, (4, 6)),), torch.zeros(4)) for _ in range(8)]
    groups, _ = prunable_groups(module, [texts[0][0][0]])
    before = module.embedding.weight.detach().clone()
    errors = reconstruct(module, groups, {group.name: [0, 1] for group in groups}, texts)
    assert set(errors) == {"up", "down"}
    assert module.head.weight is module.embedding.weight and torch.equal(module.embedding.weight, before)


def test_a_ridge_that_is_too_weak_for_the_sums_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs that are all one large number but for the last bits, and fewer places than channels."""
    monkeypatch.setattr(module_of_reconstruct, "RIDGES", (1e-30, 1e-2))
    module = nn.Sequential(nn.Linear(4, 600), nn.Linear(600, 4)).eval()
    writer: Any = module.get_submodule("0")
    with torch.no_grad():
        writer.bias.fill_(1000.0)
    given = batches_of((4,), 4, 4)
    [error] = reconstruct(module, [first_group(module, (4,))], {"0": list(range(300))}, given).values()
    assert 0 <= error < 0.01 and all(bool(p.isfinite().all()) for p in module.parameters())


def test_without_examples_and_with_one_batch() -> None:
    module, size = chain("linear")
    before = copy.deepcopy(module.state_dict())
    assert reconstruct(module, [first_group(module, size)], {"0": [1]}, []) == {}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert set(reconstruct(module, [first_group(module, size)], {"0": [1]}, batches_of(size, 1))) == {"2"}


def test_modes_are_kept_and_the_same_seed_gives_the_same_bytes(network: Make) -> None:
    found = []
    for _ in range(2):
        module = network("mobilenet").train()
        groups, _ = prunable_groups(module, [torch.randn(2, 3, 16, 16)])
        reconstruct(module, groups, {group.name: [0, 1] for group in groups}, batches_of((3, 16, 16)), seed=3)
        assert module.training
        found.append(module.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
