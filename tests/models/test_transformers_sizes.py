"""A pruned network of `transformers` whose layers are alike is one that its own class makes from a configuration."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models import rest
from compress.models.count import count_macs
from compress.models.factory import Factory, build, factory_for
from compress.models.need import Need
from compress.models.settings import ModelSettings
from compress.models.transformers_sizes import (
    SIZES,
    configured,
    correct_configuration,
    correct_sizes,
    head_size,
    resized,
)
from compress.pruning.depth import drop_blocks
from compress.pruning.prune import prune_module
from compress.pruning.settings import Pruning
from tests.models.text_networks import inputs, made

_ENCODER = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("bert", "text-classification", _ENCODER),
    "bert of words": ("bert", "masked-lm", _ENCODER),
    "roberta": ("roberta", "text-classification", _ENCODER),
    "distilbert": ("distilbert", "text-classification", {"dim": 32, "hidden_dim": 48, "n_heads": 4}),
    "gpt2": ("gpt2", "causal-lm", {"n_embd": 32, "n_head": 4}),
    "llama": ("llama", "causal-lm", {**_ENCODER, "num_key_value_heads": 2}),
    "vit": ("vit", "", {}),
}
LAYERS = {"gpt2": "h", "llama": "layers"}


def opened(name: str, **more: Any) -> tuple[Factory, nn.Module, list[Tensor]]:
    """A tiny network, in evaluation mode, with its factory and inputs."""
    kind, task, sizes = NETWORKS[name]
    if kind == "vit":
        config = {
            "model_type": "vit", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "patch_size": 8, **more,
        }  # fmt: skip
        factory = factory_for(ModelSettings(transformers=config), Need(((3, 16, 16),), 5))
        return factory, build(factory, 1).eval(), [torch.randn(2, 3, 16, 16)]
    factory, module = made(kind, task, **sizes, **more)
    return factory, module, [torch.from_numpy(array) for array in inputs(task, [7, 4])]


def pruned(name: str, **changes: Any) -> tuple[Factory, nn.Module, list[Tensor]]:
    """The same at half of its arithmetic."""
    factory, module, given = opened(name)
    settings = {"keep": {"macs": 0.5}, "importance": "magnitude", "round_to": 1, **changes}
    log = prune_module(module, given, Pruning.model_validate(settings))
    assert log.reached < 0.75
    return factory, module, given


def answer(module: nn.Module, given: list[Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = module(*given)
    return found


def plain(module: nn.Module) -> dict[str, Any]:
    """The configuration inside of a network."""
    network: Any = configured(module)
    return dict(network.config.to_dict())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pruned_network_is_one_of_another_configuration(name: str, tmp_path: Path) -> None:
    factory, module, given = pruned(name)
    other = resized(factory, module)
    before, after = factory.arguments["config"], other.arguments["config"]
    changed = {key for key in after if after[key] != before.get(key)}
    sizes = SIZES[before["model_type"]]
    assert changed <= {probe.key for probe in sizes.probes} | {sizes.head_size}
    assert changed & {probe.key for probe in sizes.probes}
    shapes = {key: tensor.shape for key, tensor in build(other).state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in module.state_dict().items()}
    rest.save(module, other, tmp_path)
    assert json.loads((tmp_path / rest.MODEL_FILE).read_text())["edits"] == []
    back = rest.load(tmp_path)
    assert rest.state_digest(back) == rest.state_digest(module)
    assert torch.equal(answer(back, given), answer(module, given))
    assert count_macs(back, tuple(x[:1] for x in given)) == count_macs(module, tuple(x[:1] for x in given))


@pytest.mark.parametrize("name", NETWORKS)
def test_its_own_library_saves_and_loads_it(name: str, tmp_path: Path) -> None:
    factory, module, given = pruned(name)
    resized(factory, module)
    network: Any = configured(module)
    network.save_pretrained(tmp_path)
    again = copy.deepcopy(module)
    again.network = type(network).from_pretrained(tmp_path).eval()
    assert torch.equal(answer(again, given), answer(module, given))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_saved_without_its_factory_and_described_by_it_afterwards(name: str, tmp_path: Path) -> None:
    factory, module, given = pruned(name)
    assert correct_sizes(module)
    network: Any = configured(module)
    network.save_pretrained(tmp_path)
    again = copy.deepcopy(module)
    again.network = type(network).from_pretrained(tmp_path).eval()
    assert torch.equal(answer(again, given), answer(module, given))
    other = resized(factory, module)
    assert other == resized(factory, pruned(name)[1]) != factory


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "vit"])
def test_a_dropped_layer_is_a_smaller_number_of_them(name: str, tmp_path: Path) -> None:
    factory, module, given = opened(name)
    network: Any = configured(module)
    blocks = LAYERS.get(name, "encoder.layer")
    path = next(path for path, _ in module.named_modules() if path.endswith(f".{blocks}.0"))
    drop_blocks(module, [path])
    other = resized(factory, module)
    key = SIZES[network.config.model_type].layers
    assert (factory.arguments["config"][key], other.arguments["config"][key]) == (2, 1)
    assert getattr(network.config, key) == 1
    rest.save(module, other, tmp_path)
    assert json.loads((tmp_path / rest.MODEL_FILE).read_text())["edits"] == []
    assert torch.equal(answer(rest.load(tmp_path), given), answer(module, given))


@pytest.mark.parametrize("name", ["bert", "llama", "vit"])
def test_uneven_layers_leave_all_as_it_was(name: str, tmp_path: Path) -> None:
    factory, module, given = opened(name)
    wide = next(p for p, part in module.named_modules() if p.endswith(("layer.0.intermediate.dense", "0.mlp.up_proj")))
    settings = Pruning.model_validate(
        {"keep": {"channels": 0.95}, "importance": "magnitude", "round_to": 1, "uniform": False, "minimum_share": 0.1,
         "ignore": [p for p, part in module.named_modules() if isinstance(part, nn.Linear) and not _beside(p, wide)]}
    )  # fmt: skip
    prune_module(module, given, settings)
    config = plain(module)
    assert resized(factory, module) is factory and not correct_sizes(module)
    assert plain(module) == config
    rest.save(module, factory, tmp_path)
    back = rest.load(tmp_path)
    assert torch.equal(answer(back, given), answer(module, given))


def _beside(path: str, other: str) -> bool:
    """Whether two layers make or read the same feed-forward channels."""
    return path.rpartition(".")[0] == other.rpartition(".")[0] and "down" not in path


def test_a_network_that_was_not_pruned_keeps_its_factory() -> None:
    factory, module, _ = opened("distilbert")
    config = plain(module)
    assert resized(factory, module) is factory
    assert plain(module) == config
    other = Factory("python", "network.py:make")
    assert resized(other, nn.Linear(2, 2)) is other


@pytest.mark.parametrize("name", NETWORKS)
def test_corrected_sizes_are_those_of_the_tensors(name: str) -> None:
    _, module, _ = opened(name)
    network: Any = configured(module)
    true, size = plain(module), head_size(network)
    sizes = SIZES[network.config.model_type]
    assert correct_configuration(network).keys() <= {"n_inner", "head_dim"}
    for probe in sizes.probes:
        setattr(network.config, probe.key, 1000 if not probe.heads else getattr(network.config, probe.key))
    if sizes.head_size is None:
        setattr(network.config, sizes.hidden, true[sizes.hidden])  # says how wide a head is
    setattr(network.config, sizes.layers, 77)
    correct_configuration(network)
    found = plain(module)
    assert {key: found[key] for key in true if key not in ("n_inner",)} == {
        key: value for key, value in true.items() if key not in ("n_inner",)
    }
    assert head_size(network) == size


def test_layers_that_differ_are_named() -> None:
    _, module, _ = opened("bert")
    dense: Any = module.get_submodule("network.bert.encoder.layer.1.intermediate.dense")
    dense.weight = nn.Parameter(torch.zeros(40, 32))
    network: Any = configured(module)
    with pytest.raises(UsageError, match=r"intermediate_size: its layers have different widths \[40, 48\]"):
        correct_configuration(network)


def test_what_is_not_known_is_not_configured() -> None:
    assert configured(nn.Linear(2, 2)) is None
    _, module = made("t5", "sequence-to-sequence")
    assert configured(module) is None
