"""By how much the loss grows without each block: what comes before a block is not computed again for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compress.pruning.depth import bypassed
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import joined


@torch.no_grad()
def harm_of_blocks(module: nn.Module, paths: Sequence[str], dropped: Collection[str], given: Given) -> dict[str, float]:
    """By how much the mean loss on the examples grows without each further block, by path; 0 where it does not.

    Args:
        module: with all its blocks.
        paths: of blocks that may go, none inside of another.
        dropped: paths of those that are gone already.
        given: examples and the loss.
    """
    large = joined(given.batches)
    grown = {path: 0.0 for path in paths if path not in dropped}
    for inputs, targets in large:
        outputs: dict[str, list[Any]] = {}
        with bypassed(module, dropped), _recorded(module, paths, outputs):
            before = float(given.loss(module(*inputs), targets))
        earlier: dict[str, Any] = {}
        for path, calls in outputs.items():
            if path in grown:
                with bypassed(module, {path, *dropped}), _replayed(module, earlier):
                    grown[path] += float(given.loss(module(*inputs), targets)) - before
            if len(calls) == 1:  # of a block that is called again later the outputs may change
                earlier[path] = calls[0]
    return {path: max(growth / len(large), 0.0) for path, growth in grown.items()}


@contextmanager
def _recorded(module: nn.Module, paths: Sequence[str], outputs: dict[str, list[Any]]) -> Iterator[None]:
    """As long as the context lasts what blocks give is kept, for each call, by path in the order of their calls."""
    with ExitStack() as stack:
        for path in paths:

            def keep(part: nn.Module, arguments: tuple[Any, ...], output: Any, path: str = path) -> None:
                outputs.setdefault(path, []).append(_copied(output))

            stack.enter_context(module.get_submodule(path).register_forward_hook(keep))
        yield


@contextmanager
def _replayed(module: nn.Module, outputs: Mapping[str, Any]) -> Iterator[None]:
    """As long as the context lasts blocks give what is known, and compute nothing."""
    with ExitStack() as stack:
        for path, output in outputs.items():
            block = module.get_submodule(path)
            stack.callback(_restore, block, vars(block).get("forward"))
            vars(block)["forward"] = lambda *_, known=output, **__: _copied(known)
        yield


def _restore(block: nn.Module, forward: Any) -> None:
    """Give a block the `forward` of its own that it had, or that of its class."""
    del vars(block)["forward"]
    if forward is not None:
        vars(block)["forward"] = forward


def _copied(output: Any) -> Any:
    """So that what follows may change it."""
    return pytree.tree_map_only(Tensor, torch.clone, output)
