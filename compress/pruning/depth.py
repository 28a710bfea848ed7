"""Whole blocks that can go: those that pass on what they are given and only add to it, such as residual blocks.

Removing one leaves a network that still works, because the next block is given nearly what it was given before.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from compress.models.edits import describe_edits
from compress.modes import evaluating
from compress.pruning.verify import answers, disagreement, perturbed

CONTAINERS = (nn.Sequential, nn.ModuleList)
Call = tuple[tuple[Any, ...], dict[str, Any]]
PASSED_ON = 0.9
"""Least cosine between what goes into a block and what comes out of it once its weights are zero."""


def find_blocks(module: nn.Module, example_inputs: Sequence[Tensor]) -> list[str]:
    """Paths of the blocks without which the network still computes, in its order; none lies inside of another.

    A block is an entry of a `Sequential` or a `ModuleList` that gives a tensor shaped like its first input, and that,
    were all its weights zero, would give that input back. Without it the network must answer as if the block gave its
    input back, which it does not where modules of two lists go in pairs, and it must be possible to write down what is
    left as changes to what makes the network.
    """
    calls = _calls(module, example_inputs).items()
    passing = [path for path, call in calls if _passes_on(module.get_submodule(path), call)]
    inner = [path for path in passing if not any(other.startswith(f"{path}.") for other in passing)]
    if not inner:
        return []
    noisy = perturbed(module, seed=0)  # new layers may all be alike
    return [path for path in inner if _runs_without(noisy, path, example_inputs)]


@contextmanager
def bypassed(module: nn.Module, paths: Collection[str]) -> Iterator[None]:
    """As long as the context lasts blocks give back what they are given, and none of their weights matters."""

    def keep(part: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        inputs.append(_first((arguments, keywords)).clone())  # the block may change it

    def give_back(part: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        leaves, structure = pytree.tree_flatten(output)
        place = next(number for number, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
        leaves[place] = inputs.pop()
        return pytree.tree_unflatten(leaves, structure)

    inputs: list[Tensor] = []
    with ExitStack() as stack:
        for path in paths:
            block = module.get_submodule(path)
            stack.enter_context(block.register_forward_pre_hook(keep, with_kwargs=True))
            stack.enter_context(block.register_forward_hook(give_back))
        yield


def _first(call: Call) -> Tensor:
    return next(leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, Tensor))


def drop_blocks(module: nn.Module, paths: Collection[str]) -> None:
    """Take blocks out for good: an identity stands in a `Sequential`, a `ModuleList` becomes shorter."""
    lists: dict[nn.ModuleList, set[str]] = {}
    for path in paths:
        parent, name = _parent(module, path)
        if isinstance(parent, nn.ModuleList):
            lists.setdefault(parent, set()).add(name)
        else:
            setattr(parent, name, nn.Identity())
    for parent, names in lists.items():
        left = [part for name, part in parent.named_children() if name not in names]
        parent._modules.clear()
        for number, part in enumerate(left):
            parent.add_module(str(number), part)
            for inner in part.modules():
                if isinstance(vars(inner).get("layer_idx"), int):  # where transformers keeps a layer's place
                    vars(inner)["layer_idx"] = number


def _parent(module: nn.Module, path: str) -> tuple[nn.Module, str]:
    owner, _, name = path.rpartition(".")
    return module.get_submodule(owner), name


def _calls(module: nn.Module, example_inputs: Sequence[Tensor]) -> dict[str, Call]:
    """What each entry of a container that has weights is called with, once."""
    entries = {
        f"{path}.{name}" if path else name: part
        for path, parent in module.named_modules()
        if isinstance(parent, CONTAINERS)
        for name, part in parent.named_children()
        if any(parameter.dim() > 1 for parameter in part.parameters())
    }
    calls: dict[str, Call] = {}

    def note(path: str) -> Any:
        def hook(part: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            calls[path] = pytree.tree_map_only(Tensor, torch.clone, (arguments, keywords))  # it may change them

        return hook

    with ExitStack() as stack, evaluating(module), torch.no_grad():
        for path, part in entries.items():
            stack.enter_context(part.register_forward_pre_hook(note(path), with_kwargs=True))
        module(*example_inputs)
    return {path: calls[path] for path in entries if path in calls}


@torch.no_grad()
def _passes_on(block: nn.Module, call: Call) -> bool:
    """Whether a block with all its weights at zero gives back what it is given; norms on the residual path may stay."""
    arguments, keywords = call
    given = next((leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, Tensor)), None)
    if given is None or not given.is_floating_point():
        return False
    given = given.clone()
    silent = copy.deepcopy(block).eval()
    for part in silent.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.dim() > 1 or name == "bias" or isinstance(part, _BatchNorm):
                parameter.zero_()
    try:
        output = next(leaf for leaf in pytree.tree_leaves(silent(*arguments, **keywords)) if isinstance(leaf, Tensor))
    except Exception:
        return False
    if output.shape != given.shape:
        return False
    pair = output.flatten().cpu().double(), given.flatten().cpu().double()
    return float(nn.functional.cosine_similarity(*pair, dim=0)) > PASSED_ON


def _runs_without(module: nn.Module, path: str, example_inputs: Sequence[Tensor]) -> bool:
    """Whether the network without a block answers as with the block bypassed, and can be written down."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    try:
        drop_blocks(shorter := copy.deepcopy(module, tensors), [path])  # the tensors are the same
        describe_edits(shorter, module)
        with bypassed(module, [path]):
            expected = answers(module, example_inputs)
        return disagreement(answers(shorter, example_inputs), expected) is None
    except Exception:
        return False
