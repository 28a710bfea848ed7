"""Where in a network the features lie that losses compare: by glob, or found by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.outputs import INPUT, observe, watched
from compress.errors import UsageError
from compress.suggest import did_you_mean, listed

Shapes = Mapping[str, tuple[int, ...]]
_WRAPPER = "network."
_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
)
_FUSED = ("c_attn", "qkv", "query_key_value")
_CROSS = ("crossattention", "cross_attn", "encoder_attn", "EncDecAttention")


def matching(module: nn.Module, patterns: str | Sequence[str], where: str) -> tuple[str, ...]:
    """The paths of the modules that the globs match, in the order in which the network holds them.

    `where` names the setting, for messages.

    Raises:
        UsageError: a glob that matches nothing; the message lists near names.
    """
    names = [name for name, _ in module.named_modules() if name]
    found: list[str] = []
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        matched = [n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n.removeprefix(_WRAPPER), pattern)]
        depth = min((name.count(".") for name in matched), default=0)
        matched = [name for name in matched if name.count(".") == depth]
        if not matched:
            shown = sorted({name.removeprefix(_WRAPPER) for name in names}, key=lambda name: (name.count("."), name))
            hint = did_you_mean(pattern, shown) or f"; there is {listed(shown)}"
            raise UsageError(f"{where}: no module matches {pattern!r}{hint}")
        found += [name for name in matched if name not in found]
    return tuple(found)


def shapes_at(module: nn.Module, inputs: tuple[Tensor, ...], points: Sequence[str]) -> Shapes:
    """The shape of the tensor at each point, without the batch axis."""
    with _evaluated(module), torch.no_grad():
        seen = observe(module, inputs, points)
    return {point: tuple(tensor.shape[1:]) for point, tensor in seen.points.items()}


def stage_points(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """For each resolution of a convolution network the module that gives the last map of it; pooled ones left out."""
    last: dict[tuple[int, ...], str] = {}
    names = {name for name, part in module.named_modules() if name and next(part.parameters(), None) is not None}
    order: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        def hook(owner: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                order.append((name, tuple(output.shape[2:])))

        return hook

    handles = [module.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        with _evaluated(module), torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name, size in order:
        last[size] = name
    return tuple(last.values())


def embedding_point(module: nn.Module) -> str:
    """The input of the last linear layer: the vector of an example that the answer is read from.

    Raises:
        UsageError: there is no linear layer.
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UsageError("losses: the network has no linear layer whose input would be its embedding: name a module")
    return linear[-1] + INPUT


@dataclass(frozen=True)
class Attention:
    """The projections of one self-attention layer: three points, or one that holds all three side by side."""

    points: tuple[str, ...]
    heads: int
    key_heads: int

    def split(self, seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (examples, tokens, width) each."""
        if len(self.points) == 1:
            query, key, value = seen[self.points[0]].chunk(3, dim=-1)
            return query, key, value
        query, key, value = (seen[point] for point in self.points)
        return query, key, value


@dataclass(frozen=True)
class Transformer:
    """The layers of a transformer in order; `rotary` says that positions enter between projection and attention."""

    layers: tuple[str, ...]
    attention: tuple[Attention, ...]
    rotary: bool

    def hidden(self, with_embeddings: bool) -> tuple[str, ...]:
        """The points of the hidden states, those of the embedding layer first if they are wanted."""
        return (*((self.layers[0] + INPUT,) if with_embeddings else ()), *self.layers)


def transformer(module: nn.Module) -> Transformer | None:
    """The layers of a transformer's one stack; None if the network is none.

    Raises:
        UsageError: the network has several stacks (an encoder and a decoder), so that modules must be named.
    """
    stacks = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) and _attention_paths(part[0]) is not None
    ]
    stacks = [(n, s) for n, s in stacks if not any(n.startswith(f"{other}.") for other, _ in stacks)]
    if not stacks:
        return None
    if len(stacks) > 1:
        names = listed(name.removeprefix(_WRAPPER) for name, _ in stacks)
        raise UsageError(f"losses: the network has several stacks of layers ({names}); name the modules to compare")
    (stack, layers), config = stacks[0], _config(module)
    heads = int(_first(config, ("num_attention_heads", "n_heads", "n_head", "num_heads"), 0))
    if not heads:
        raise UsageError("losses: how many heads the network's attention has cannot be told from its configuration")
    key_heads = int(_first(config, ("num_key_value_heads",), heads))
    attention = []
    for index, layer in enumerate(layers):
        paths = _attention_paths(layer) or ()
        attention.append(Attention(tuple(f"{stack}.{index}.{path}" for path in paths), heads, key_heads))
    rotary = getattr(config, "rope_theta", None) is not None
    return Transformer(tuple(f"{stack}.{i}" for i in range(len(layers))), tuple(attention), rotary)


def _attention_paths(layer: nn.Module) -> tuple[str, ...] | None:
    """Paths inside a layer of its self-attention's projections."""
    for path, part in layer.named_modules():
        if any(word in path for word in _CROSS):
            continue
        children = dict(part.named_children())
        prefix = f"{path}." if path else ""
        for names in _PROJECTIONS:
            if all(name in children for name in names):
                return tuple(prefix + name for name in names)
        for name in _FUSED:
            if name in children:
                return (prefix + name,)
    return None


def _config(module: nn.Module) -> Any:
    return next((part.config for part in module.modules() if hasattr(part, "config")), None)


def _first(config: Any, names: Sequence[str], default: Any) -> Any:
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    return default


class _evaluated:
    """`eval()` inside the block, and each module's own mode after it."""

    def __init__(self, module: nn.Module) -> None:
        self.modes = [(part, part.training) for part in module.modules()]
        self.module = module

    def __enter__(self) -> None:
        self.module.eval()

    def __exit__(self, *_: object) -> None:
        for part, mode in self.modes:
            part.training = mode


__all__ = [
    "Attention",
    "Transformer",
    "embedding_point",
    "matching",
    "shapes_at",
    "stage_points",
    "transformer",
    "watched",
]
