from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models import rest
from compress.models.factory import Factory, build
from compress.pruning.prunable import prunable_groups
from compress.pruning.prune import PruneLog, prune_module
from compress.pruning.settings import Pruning

Make = Callable[[str], nn.Module]
NAMES = ("encoder_decoder", "group_norm", "tied", "transformer", "resnet_a", "resnet_b", "mobilenet")


def _settings(**changes: Any) -> Pruning:
    return Pruning.model_validate({"keep": {"macs": 0.5}, "importance": "magnitude", "round_to": 4, **changes})


def _prune(module: nn.Module, example: Tensor, **changes: Any) -> PruneLog:
    return prune_module(module, [example], _settings(**changes))


def _macs(module: nn.Module, image: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers, from the sizes that hooks see: an independent count."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        if isinstance(layer, nn.Linear):
            total += weight.numel() * output.numel() // output.shape[-1]
        else:
            total += weight.numel() * places[0, 0].numel()

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        module.eval()(image)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("name", [name for name in NAMES if name != "transformer"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_half_of_the_macs_are_kept(name: str, scope: str, network: Make, example: Tensor) -> None:
    module = network(name)
    before = _macs(module, example[:1])
    log = _prune(module, example, scope=scope)
    left = _macs(module, example[:1]) / before
    assert left == pytest.approx(0.5, rel=0.05)
    assert log.reached == pytest.approx(left, abs=0.005)
    assert log.after["macs"] / log.before["macs"] == log.reached
    assert module.train()(example).shape == module.eval()(example).shape == network(name)(example).shape


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_share_of_the_parameters_is_kept(share: float, network: Make, example: Tensor) -> None:
    module = network("resnet_b")
    before = sum(parameter.numel() for parameter in module.parameters())
    _prune(module, example, keep={"parameters": share})
    assert sum(parameter.numel() for parameter in module.parameters()) / before == pytest.approx(share, rel=0.05)


def test_a_share_of_the_channels_is_kept(network: Make, example: Tensor) -> None:
    module = network("encoder_decoder")
    log = _prune(module, example, keep={"channels": 0.5}, round_to=1)
    assert sum(after for _, after in log.widths.values()) == 40
    assert sum(before for before, _ in log.widths.values()) == 80


def test_transformers_lose_heads_features_and_width(network: Make, example: Tensor) -> None:
    module = network("transformer")
    log = _prune(module, example)
    assert log.reached == pytest.approx(0.5, rel=0.05)
    assert module.train()(example).shape == (2, 5)
    for layer in range(2):
        attention = vars(module.get_submodule(f"attention.{layer}"))
        assert attention["all_head_size"] == 8 * attention["num_attention_heads"]
        assert log.widths[f"attention.{layer}.query"][1] == attention["all_head_size"]


@pytest.mark.parametrize("round_to", [1, 4, 8])
def test_channels_are_kept_in_multiples_above_the_floor(round_to: int, network: Make, example: Tensor) -> None:
    log = _prune(network("resnet_b"), example, keep={"macs": 0.7}, round_to=round_to, minimum_share=0.3)
    for before, after in log.widths.values():
        assert after == before or after % round_to == 0
        assert after >= max(1, 0.3 * before)
    assert any(after < before for before, after in log.widths.values())


def test_ignored_layers_keep_their_channels(network: Make, example: Tensor) -> None:
    log = _prune(network("resnet_b"), example, keep={"macs": 0.7}, ignore=["layer2.*"])
    assert log.fixed["layer2.0.conv1"] == "it is ignored"
    assert not any(name.startswith("layer2") for name in log.widths)
    with pytest.raises(UsageError, match="'layr2' matches no module of the network"):
        _prune(network("resnet_b"), example, ignore=["layr2"])


def test_what_is_coupled_with_an_ignored_layer_says_so(network: Make, example: Tensor) -> None:
    _, fixed = prunable_groups(network("resnet_b"), [example], ignore=["layer2.1.conv2"])
    assert fixed["layer2.0.conv2"] == "it is coupled with layer2.1.conv2, which is ignored"


def test_a_share_out_of_reach_names_the_least_that_is_not(network: Make, example: Tensor) -> None:
    module = network("resnet_a")
    with pytest.raises(UsageError, match=r"prune.keep.macs: a share of 0.01 cannot be reached; the least") as caught:
        _prune(module, example, keep={"macs": 0.01}, round_to=8)
    least = float(str(caught.value).split("leave is ")[1].split(". ")[0])
    assert _prune(module, example, keep={"macs": least}, round_to=8).reached == pytest.approx(least, abs=0.002)


def test_too_coarse_a_multiple_is_refused(network: Make, example: Tensor) -> None:
    with pytest.raises(UsageError, match="Choose a smaller `round_to`"):
        _prune(network("encoder_decoder"), example, round_to=64)


def test_a_network_with_nothing_to_prune_is_refused(example: Tensor) -> None:
    with pytest.raises(UsageError, match=r"no layer of the network can be pruned\. 0 "):
        _prune(nn.Sequential(nn.Conv2d(3, 4, 3)), example)


def test_taylor_needs_examples(network: Make, example: Tensor) -> None:
    with pytest.raises(UsageError, match="needs training examples"):
        _prune(network("tied"), example, importance="taylor")


def _taylor(module: nn.Module, example: Tensor, seed: int = 0) -> PruneLog:
    batches = [((example,), torch.tensor([0, 3]))]
    loss = nn.functional.cross_entropy
    return prune_module(module, [example], _settings(importance="taylor"), batches=batches, loss=loss, seed=seed)


def test_the_same_seed_gives_the_same_network(network: Make, example: Tensor) -> None:
    one, other = network("tied"), network("tied")
    assert _taylor(one, example) == _taylor(other, example)
    assert rest.state_digest(one) == rest.state_digest(other)


def test_channels_that_nothing_depends_on_go_first(network: Make, example: Tensor) -> None:
    module = network("tied")
    dead = [1, 2, 5, 7, 8, 9, 12, 13]
    kept = [channel for channel in range(16) if channel not in dead]
    with torch.no_grad():
        module.get_parameter("last.weight")[dead] = 0
        module.get_parameter("last.bias")[dead] = -1  # negative before a rectifier
        module.get_parameter("last.bias")[kept] = torch.arange(1.0, 9.0)
    batches = [((example,), torch.tensor([0, 3]))]
    settings = _settings(importance="taylor", keep={"channels": 0.9})
    prune_module(module, [example], settings, batches=batches, loss=nn.functional.cross_entropy)
    assert module.get_parameter("last.bias").tolist() == list(range(1, 9))


def test_a_network_that_looks_at_values_can_be_counted(example: Tensor) -> None:
    class Looks(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return y if y.abs().max().item() >= 0 else y * 2

    module = Looks(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    before = _macs(module, example[:1])
    _prune(module, example)
    assert _macs(module, example[:1]) / before == pytest.approx(0.5, rel=0.05)


def test_modes_and_the_global_random_state_are_left_alone(network: Make, example: Tensor) -> None:
    module = network("tied").train()
    module.get_submodule("norm").eval()
    state = torch.random.get_rng_state()
    _taylor(module, example)
    assert module.training
    assert not module.get_submodule("norm").training
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("zoo", "arguments"), [("resnet8", {"shortcut": "A"}), ("mobilenet_v2", {}), ("vgg8", {})])
def test_reload_is_bit_equal(zoo: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    width = 1 if zoo == "resnet8" else 0.25
    factory = Factory("zoo", zoo, {"width": width, "num_classes": 5, "in_channels": 3, **arguments})
    module = build(factory, seed=0).eval()
    images = torch.randn(2, 3, 32, 32)
    _prune(module, images)
    rest.save(module, factory, tmp_path)
    again = rest.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(images), module(images))
    assert rest.state_digest(again) == rest.state_digest(module)
    assert "torch_pruning" not in (tmp_path / "model.json").read_text()


def test_a_pruned_network_can_be_pruned_again(network: Make, example: Tensor) -> None:
    module = network("resnet_a")
    _prune(module, example)
    before = copy.deepcopy(module)
    log = _prune(module, example, keep={"macs": 0.6})
    assert _macs(module, example[:1]) / _macs(before, example[:1]) == pytest.approx(0.6, rel=0.05)
    assert log.plain()["asked"] == 0.6
