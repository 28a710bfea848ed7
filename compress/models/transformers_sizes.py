"""Sizes that a `transformers` configuration holds, read from the network as it is now.

A pruned network whose layers are still alike is one that its own class makes from another configuration: with that, it
is saved and loaded like any other (`save_pretrained`, `from_pretrained`), and nothing about it is special.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from compress.errors import UsageError
from compress.models.factory import Factory, build
from compress.models.transformers_library import make_configuration


@dataclass(frozen=True)
class Probe:
    """Where a size shows: the configuration's `key`, and the `dim` of the first parameter whose name ends so.

    A number of heads is that dimension over the size of a head.
    """

    key: str
    ending: str
    dim: int
    heads: bool = False


@dataclass(frozen=True)
class Sizes:
    """One type of network: its probes, the key and the list of its layers, and how wide a head is.

    Modules of attention keep that in `attribute`. `head_size` is the key that says so where there is one; else a head
    is `hidden` / `heads` wide, and two of the three can only shrink together.
    """

    hidden: str
    heads: str
    layers: str
    blocks: str
    probes: tuple[Probe, ...]
    attribute: str = "attention_head_size"
    head_size: str | None = None


def _encoder(hidden: str, heads: str, feed_forward: str, layers: str, blocks: str, *endings: str) -> Sizes:
    width, query, wide = endings
    probes = (Probe(hidden, width, 0), Probe(heads, query, 0, heads=True), Probe(feed_forward, wide, 0))
    return Sizes(hidden, heads, layers, blocks, probes)


_BERT = _encoder(
    "hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers", "encoder.layer",
    "output.LayerNorm.weight", "attention.self.query.weight", "intermediate.dense.weight",
)  # fmt: skip
_VIT = _encoder(
    "hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers", "encoder.layer",
    "layernorm_before.weight", "attention.attention.query.weight", "intermediate.dense.weight",
)  # fmt: skip
_LLAMA = Sizes(
    "hidden_size", "num_attention_heads", "num_hidden_layers", "layers",
    (
        Probe("hidden_size", "input_layernorm.weight", 0),
        Probe("num_attention_heads", "self_attn.q_proj.weight", 0, heads=True),
        Probe("num_key_value_heads", "self_attn.k_proj.weight", 0, heads=True),
        Probe("intermediate_size", "mlp.up_proj.weight", 0),
    ),
    "head_dim", "head_dim",
)  # fmt: skip
SIZES: Mapping[str, Sizes] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "vit": _VIT,
    "deit": _VIT,
    "distilbert": _encoder(
        "dim", "n_heads", "hidden_dim", "n_layers", "transformer.layer",
        "sa_layer_norm.weight", "attention.q_lin.weight", "ffn.lin1.weight",
    ),
    "gpt2": Sizes(
        "n_embd", "n_head", "n_layer", "h",
        (
            Probe("n_embd", "ln_1.weight", 0),
            Probe("n_head", "attn.c_proj.weight", 0, heads=True),
            Probe("n_inner", "mlp.c_fc.weight", 1),
        ),
        "head_dim",
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
}  # fmt: skip
"""The types of networks whose sizes are known, by the configuration's `model_type`."""


def configured(module: nn.Module) -> nn.Module | None:
    """The outermost network of `transformers` in `module` whose sizes are known, if there is one."""
    for part in module.modules():
        config = getattr(part, "config", None)
        if getattr(config, "model_type", None) in SIZES and hasattr(part, "save_pretrained"):
            return part
    return None


def head_size(network: nn.Module) -> int:
    """Channels of one attention head."""
    attribute = SIZES[_type(network)].attribute
    return next(int(vars(part)[attribute]) for part in network.modules() if attribute in vars(part))


def hidden_size(network: nn.Module) -> int:
    """Channels of the hidden state, as the network has them now; its configuration may not know yet."""
    sizes = SIZES[_type(network)]
    probe = next(probe for probe in sizes.probes if probe.key == sizes.hidden)
    return next(p.shape[probe.dim] for name, p in network.named_parameters() if name.endswith(probe.ending))


def correct_configuration(network: nn.Module) -> dict[str, int]:
    """Put the sizes that the network has into its configuration; what has changed, by key.

    Raises:
        UsageError: layers are not alike, so that no configuration says how wide they are.
    """
    config: Any = network.config
    sizes, size = SIZES[config.model_type], head_size(network)
    found: dict[str, int] = {}
    for probe in sizes.probes:
        widths = {p.shape[probe.dim] for name, p in network.named_parameters() if name.endswith(probe.ending)}
        if len(widths) != 1:
            raise UsageError(f"{probe.key}: its layers have different widths {sorted(widths)}")
        found[probe.key] = widths.pop() // (size if probe.heads else 1)
    layers: Any = network.get_submodule(blocks_path(network))
    found[sizes.layers] = len(layers)
    if sizes.head_size:
        found[sizes.head_size] = size
    changed = {key: value for key, value in found.items() if getattr(config, key, None) != value}
    for key, value in changed.items():
        setattr(config, key, value)
    return changed


def blocks_path(network: nn.Module) -> str:
    """Where the list of layers is."""
    ending = re.compile(rf"(^|\.){re.escape(SIZES[_type(network)].blocks)}$")
    lists = (path for path, part in network.named_modules() if isinstance(part, nn.ModuleList))
    found: str = next(path for path in lists if ending.search(path))
    return found


def _type(network: nn.Module) -> str:
    config: Any = network.config
    return str(config.model_type)


def correct_sizes(module: nn.Module) -> bool:
    """Put the sizes that a network of `transformers` in `module` has into its configuration; whether that can say them.

    So `save_pretrained` and `from_pretrained` give the same network. What its parts remember is corrected, too.
    Where no configuration can say them, as where layers are not alike, all is left as it was.
    """
    network: Any = configured(module)
    if network is None:
        return False
    before = copy.deepcopy(network.config)
    try:
        if not correct_configuration(network):
            return True
        with torch.device("meta"):
            made = type(network)(copy.deepcopy(network.config))
        if _shapes(made) == _shapes(network):
            _remember(network, made)
            return True
    except Exception:  # whatever that class does not like about such sizes
        pass
    for key, value in vars(before).items():
        setattr(network.config, key, value)
    return False


def resized(factory: Factory, module: nn.Module) -> Factory:
    """The factory that makes a network of the sizes that `module` has, if its configuration can say them.

    The configuration inside of `module` is corrected as by `correct_sizes`.
    """
    network: Any = configured(module)
    if factory.source != "transformers" or network is None or not correct_sizes(module):
        return factory
    sizes, made = SIZES[_type(network)], make_configuration(factory.arguments["config"])
    keys = [*(probe.key for probe in sizes.probes), sizes.layers, *([sizes.head_size] if sizes.head_size else [])]
    now = {key: getattr(network.config, key) for key in keys}
    changed = {key: value for key, value in now.items() if getattr(made, key, None) != value}
    if not changed:
        return factory
    other = replace(factory, arguments={**factory.arguments, "config": {**factory.arguments["config"], **changed}})
    return other if _shapes(build(other)) == _shapes(module) else factory


def _remember(module: nn.Module, made: nn.Module) -> None:
    """Take over the numbers that a network made anew keeps in its modules, such as a copy of the hidden size."""
    for path, part in made.named_modules():
        own = vars(module.get_submodule(path))
        numbers = {key: value for key, value in vars(part).items() if type(value) is int}
        own.update({key: value for key, value in numbers.items() if type(own.get(key)) is int})


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
