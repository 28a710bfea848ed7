"""What must stay alike in a network of `transformers`, so that a configuration still says how wide it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from compress.models.transformers_sizes import SIZES, blocks_path, configured, hidden_size
from compress.pruning.groups import Group
from compress.pruning.ties import Ties


def uniform_ties(module: nn.Module, groups: Sequence[Group]) -> tuple[Ties, dict[str, str]]:
    """Which groups keep the same share, and for those that no configuration can describe the reason.

    Attention heads of all layers are tied, so are feed-forward widths, so is all that is as wide as the hidden state;
    and the hidden state with the heads where a head is as wide as the configuration's quotient of both.
    """
    network = configured(module)
    if network is None:
        return {}, {}
    config: Any = network.config
    sizes = SIZES[config.model_type]
    prefix = next(path for path, part in module.named_modules() if part is network)
    blocks = ".".join(part for part in (prefix, blocks_path(network)) if part)
    width = hidden_size(network)
    ties: dict[str, str] = {}
    fixed: dict[str, str] = {}
    for group in groups:
        homes = {_home(member.path, blocks) for member in group.members}
        if group.heads:
            ties[group.name] = "heads" if sizes.head_size else "hidden"
        elif len(homes) == 1 and None not in homes:
            ties[group.name] = "inside " + group.name.removeprefix(f"{blocks}.").partition(".")[2]
        elif group.channels == width:
            ties[group.name] = "hidden"
        else:
            fixed[group.name] = f"no setting of a {config.model_type} configuration says how wide it is"
    if not sizes.head_size and not any(group.heads for group in groups):
        for name in [name for name, tie in ties.items() if tie == "hidden"]:
            del ties[name]
            fixed[name] = "it is as wide as all attention heads, which cannot be pruned"
    return ties, fixed


def _home(path: str, blocks: str) -> str | None:
    """The number of the layer that a path is in, if it is in one."""
    return path.removeprefix(f"{blocks}.").partition(".")[0] if path.startswith(f"{blocks}.") else None
