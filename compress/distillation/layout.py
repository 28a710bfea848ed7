"""Where in a network the features lie that losses compare: by glob, or found by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.outputs import INPUT, observe
from compress.errors import UsageError
from compress.modes import evaluating
from compress.suggest import did_you_mean, listed

Shapes = Mapping[str, tuple[int, ...]]
_WRAPPER = "network."
_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
)
_FUSED = ("c_attn", "qkv", "Wqkv")
_FUSED_BY_HEAD = ("query_key_value",)
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_CROSS = ("crossattention", "cross_attn", "encoder_attn", "EncDecAttention")


def matching(module: nn.Module, patterns: str | Sequence[str], where: str) -> tuple[str, ...]:
    """The paths of the modules that the globs match: glob by glob, for each in the order in which the network has them.

    Of what a glob matches only the modules nearest to the root count: `layer*` means `layer1`, not `layer1.0.conv1`.
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
    with evaluating(module), torch.no_grad():
        seen = observe(module, inputs, points)
    return {point: tuple(tensor.shape[1:]) for point, tensor in seen.points.items()}


def stage_points(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """For each resolution of a convolution network the module that gives the last map of it; pooled ones left out.

    Among modules of one resolution those nearest to the root count: the end of a stage, not a layer in a block of the
    next one. Modules without parameters do not count.
    """
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
        with evaluating(module), torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name, size in order:
        if name.count(".") <= last.get(size, name).count("."):
            last[size] = name
    return tuple(last.values())


def embedding_point(module: nn.Module) -> str:
    """The input of the last linear layer: the vector of an example that the answer is read from.

    Raises:
        UsageError: there is no linear layer.
    """
    linear: list[str] = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UsageError("losses: the network has no linear layer whose input would be its embedding: name a module")
    return linear[-1] + INPUT


@dataclass(frozen=True)
class Attention:
    """The projections of one self-attention layer: three points, or one that holds all three.

    In one they lie side by side, or (`by_head`, as in GPT-NeoX and BLOOM) side by side for each head in its turn.
    """

    points: tuple[str, ...]
    heads: int
    by_head: bool = False

    def split(self, seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (examples, tokens, width) each."""
        if len(self.points) == 3:
            query, key, value = (seen[point] for point in self.points)
            return query, key, value
        fused = seen[self.points[0]]
        if self.by_head:
            fused = fused.reshape(*fused.shape[:-1], self.heads, 3, -1).transpose(-3, -2).flatten(-3)
        query, key, value = fused.chunk(3, dim=-1)
        return query, key, value


@dataclass(frozen=True)
class Transformer:
    """The layers of a transformer in order.

    `rotary` says that positions enter between projection and attention, `causal` that a token sees only those before
    it. `attention` has an item for each layer; it is empty where `obstacle` says why it cannot be read.
    """

    layers: tuple[str, ...]
    attention: tuple[Attention, ...]
    rotary: bool
    causal: bool = False
    obstacle: str = ""

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
    paths = tuple(f"{stack}.{number}" for number in range(len(layers)))
    attention = tuple(_attention(module, path, config) for path in paths)
    causal = any(getattr(part, "is_causal", False) is True for part in layers.modules())
    return Transformer(
        paths,
        () if None in attention else tuple(one for one in attention if one is not None),
        _is_rotary(module, config),
        causal or bool(getattr(config, "is_decoder", False)),
        "how its heads lie in its attention cannot be told" if None in attention else "",
    )


def _attention(module: nn.Module, layer: str, config: Any) -> Attention | None:
    """The attention of a layer; None if it is not known how heads lie in it."""
    own = _attention_paths(module.get_submodule(layer))
    if own is None:
        return None
    points = tuple(f"{layer}.{path}" for path in own)
    holder = module.get_submodule(points[0].rpartition(".")[0])
    heads = _number(holder, _HEADS) or _number(config, _HEADS)
    # The library's two families with the switch `multi_query` each have several orders of their own.
    if not heads or (len(points) == 1 and getattr(config, "multi_query", None) is not None):
        return None
    return Attention(points, heads, own[0].rpartition(".")[2] in _FUSED_BY_HEAD)


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
        for name in (*_FUSED, *_FUSED_BY_HEAD):
            if name in children:
                return (prefix + name,)
    return None


def _is_rotary(module: nn.Module, config: Any) -> bool:
    if any("Rotary" in type(part).__name__ for part in module.modules()):
        return True
    return getattr(config, "rotary_dim", None) is not None or getattr(config, "model_type", "") == "roformer"


def _config(module: nn.Module) -> Any:
    return next((part.config for part in module.modules() if hasattr(part, "config")), None)


def _number(owner: Any, names: Sequence[str]) -> int:
    """The first attribute that is there and a number; 0 if none is."""
    return next((value for name in names if isinstance(value := getattr(owner, name, None), int)), 0)
