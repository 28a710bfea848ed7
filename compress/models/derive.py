"""A student from its teacher: some of a transformer's layers with their weights, or a smaller new network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from compress.bundle import Bundle
from compress.data.open import open_data
from compress.errors import UsageError
from compress.models import rest
from compress.models.build import write_network
from compress.models.count import count_parameters
from compress.models.factory import Factory, build
from compress.models.settings import ModelSettings
from compress.models.stage import Derive, seed_for
from compress.stage import Context, Metrics
from compress.tasks.open import open_task

_DEPTHS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "num_decoder_layers", "encoder_layers",
           "decoder_layers")  # fmt: skip
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
_INNER = ("intermediate_size", "hidden_dim", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim")
_HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads", "encoder_attention_heads", "decoder_attention_heads")
_KEY_HEADS = ("num_key_value_heads",)
_OF_EACH_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
_NUMBERS = ("layer_id", "layer_idx")
"""What a layer calls its own number, in which it differs from any other."""
_PLAIN = (bool, int, float, str, tuple, type(None))


def derive_bundle(stage: Derive, source: Bundle, out: Path, context: Context) -> Metrics:
    """Write the bundle of the smaller network into `out`.

    Raises:
        UsageError: the network that it is from has no layers to choose from, or not these, or was pruned.
    """
    try:
        return _derive_bundle(stage, source, out, context)
    except UsageError as error:
        place = f"models.{stage.name}"
        raise UsageError([replace(fault, where=fault.where or place) for fault in error.faults]) from error


def _derive_bundle(stage: Derive, source: Bundle, out: Path, context: Context) -> Metrics:
    assert context.data is not None
    task = open_task(context.task)
    data = task.prepare(open_data(context.data))
    factory, teacher, extra = rest.read_factory(source.path), rest.load(source.path), dict[str, Any]()
    _refuse_pruned(teacher, factory)
    if stage.smaller.layers is not None:
        module, smaller, chosen = with_layers(teacher, factory, stage.smaller.layers)
        extra["layers"] = chosen
    else:
        smaller = shrunk(factory, stage.smaller)
        module = build(smaller, seed_for(context.seed, stage.name))
        _require_smaller(module, teacher, stage.smaller)
    return {**write_network(module, smaller, data, task, out, context), **extra}


def with_layers(
    teacher: nn.Module, factory: Factory, layers: int | str | Sequence[int]
) -> tuple[nn.Module, Factory, list[int]]:
    """The network of some of a transformer's layers, its factory, and their numbers (Sanh et al. 2019, section 3).

    Everything but the layers is copied whole: embeddings, norms, head.

    Args:
        teacher: as its factory makes it, with any weights.
        factory: of a `transformers` network.
        layers: their numbers, how many (spread evenly), or `every-other`.

    Raises:
        UsageError: no transformer with one stack of layers, layers that it does not have, or one that cannot stand
            where it would.
    """
    if factory.source == "zoo":
        raise UsageError(f"layers: only transformers have layers to choose from; give {factory.name} a `width`")
    config = _config_of(factory)
    key = next((key for key in _DEPTHS if key in config), None)
    stack = None if key is None or config.get("is_encoder_decoder") else _stack(teacher, config[key])
    if key is None or stack is None:
        raise UsageError("layers: the model has no single stack of layers to choose from: give `width` and `depth`")
    chosen = layer_numbers(layers, config[key])
    smaller = replace(factory, arguments={**factory.arguments, "config": _of_layers(config, key, chosen)})
    module = build(smaller).eval()
    _require_alike(teacher.eval(), module, stack, chosen)
    known = teacher.state_dict()
    state: dict[str, Tensor] = {}
    for name in module.state_dict():
        if name.startswith(f"{stack}."):
            number, _, inner = name.removeprefix(f"{stack}.").partition(".")
            state[name] = known[f"{stack}.{chosen[int(number)]}.{inner}"]
        else:
            state[name] = known[name]
    module.load_state_dict(state)
    return module, smaller, chosen


def layer_numbers(layers: int | str | Sequence[int], depth: int) -> list[int]:
    """The numbers of the layers that are meant, ascending.

    Raises:
        UsageError: there are not so many.
    """
    if layers == "every-other":
        return list(range(0, depth, 2))
    if isinstance(layers, int):
        if layers > depth:
            raise UsageError(f"layers: {layers} of the {depth} that there are")
        return [round(place) for place in np.linspace(0, depth - 1, layers)] if layers > 1 else [0]
    assert not isinstance(layers, str)
    wrong = [number for number in layers if number >= depth]
    if wrong:
        raise UsageError(f"layers: there is no layer {wrong[0]}; the model has 0 to {depth - 1}")
    return list(layers)


def shrunk(factory: Factory, settings: ModelSettings) -> Factory:
    """The factory of a narrower (`width`) and shallower (`depth`) network of the same kind.

    A transformer keeps the width of its heads and gets fewer of them; a zoo network gets fewer channels.

    Raises:
        UsageError: the network is of a kind that cannot be made smaller so.
    """
    width, depth = settings.width or 1.0, settings.depth or 1.0
    if factory.source == "zoo":
        if depth != 1.0:
            raise UsageError("depth: a network of the zoo has its depth in its name, such as resnet20: name another")
        return replace(factory, arguments={**factory.arguments, "width": factory.arguments["width"] * width})
    config = dict(_config_of(factory))
    _scale(config, _DEPTHS, depth)
    key = next((key for key in _DEPTHS if key in config), None)
    if key is not None:
        config = _of_layers(config, key, range(config[key]))
    if width != 1.0:
        _narrow(config, width)
    return replace(factory, arguments={**factory.arguments, "config": config})


def _refuse_pruned(teacher: nn.Module, factory: Factory) -> None:
    """UsageError if the network has other sizes than what its factory makes, from which sizes are taken."""
    now, made = ([(key, x.shape) for key, x in part.state_dict().items()] for part in (teacher, build(factory)))
    if now != made:
        raise UsageError("from: the model was pruned above the first stage that reads this one: read this one above it")


def _require_smaller(module: nn.Module, teacher: nn.Module, settings: ModelSettings) -> None:
    asked = [f"{key}: {value:g}" for key in ("width", "depth") if (value := getattr(settings, key) or 1.0) < 1]
    if asked and count_parameters(module) >= count_parameters(teacher):
        raise UsageError(f"{', '.join(asked)} leaves the network as large as the model that it is from: give less")


def _of_layers(config: Mapping[str, Any], key: str, chosen: Sequence[int]) -> dict[str, Any]:
    """The configuration of a network with these layers alone."""
    lists = {name: config[name] for name in _OF_EACH_LAYER if isinstance(config.get(name), list)}
    return {**config, key: len(chosen), **{name: [values[n] for n in chosen] for name, values in lists.items()}}


def _require_alike(teacher: nn.Module, module: nn.Module, stack: str, chosen: Sequence[int]) -> None:
    """UsageError unless each layer that is copied computes in its new place what it did in the old one."""
    old, new = teacher.get_submodule(stack), module.get_submodule(stack)
    assert isinstance(old, nn.ModuleList) and isinstance(new, nn.ModuleList)
    if len(new) != len(chosen):
        raise UsageError("layers: the model's configuration does not say how many there are: give `width` and `depth`")
    for place, number in enumerate(chosen):
        if _described(old[number]) != _described(new[place]):
            raise UsageError(
                f"layers: layer {number} is built otherwise than the layer {place} that it would become, as in a model "
                f"whose first layer is like no other: choose others, or give `width` and `depth`"
            )


def _described(layer: nn.Module) -> Any:
    """The parts of a layer, their settings, and the sizes of its weights; not its number."""
    parts = [
        (name, type(part), {k: v for k, v in vars(part).items() if isinstance(v, _PLAIN) and k not in _NUMBERS})
        for name, part in layer.named_modules()
    ]
    return parts, {name: tensor.shape for name, tensor in layer.state_dict().items()}


def _narrow(config: dict[str, Any], width: float) -> None:
    """Fewer heads of the same width each; everything that is as wide as the heads together follows."""
    heads, size = _first(config, _HEADS), _first(config, _WIDTHS)
    if heads is None or size is None:
        raise UsageError("width: how wide the network is cannot be told from its configuration")
    kept = max(1, round(heads * width))
    key_heads = _first(config, _KEY_HEADS) or heads
    kept_keys = kept if key_heads == heads else math.gcd(kept, max(1, round(key_heads * width)))
    values = dict.fromkeys(_HEADS, kept) | dict.fromkeys(_KEY_HEADS, kept_keys)
    values |= dict.fromkeys(_WIDTHS, size // heads * kept)
    values |= {key: max(8, round((config.get(key) or 0) * kept / heads / 8) * 8) for key in _INNER}
    config.update({key: value for key, value in values.items() if isinstance(config.get(key), int)})


def _first(config: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    return next((config[key] for key in keys if isinstance(config.get(key), int)), None)


def _scale(config: dict[str, Any], keys: Sequence[str], factor: float) -> None:
    for key in keys:
        if isinstance(config.get(key), int):
            config[key] = max(1, round(config[key] * factor))


def _config_of(factory: Factory) -> Mapping[str, Any]:
    config = factory.arguments.get("config")
    if not isinstance(config, Mapping):
        raise UsageError(f"from: only transformers and zoo networks can be made smaller; this one is {factory.name}")
    return config


def _stack(module: nn.Module, depth: int) -> str | None:
    """The path of the one list of layers that is as long as the configuration says."""
    found = [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    found = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    return found[0] if len(found) == 1 else None
