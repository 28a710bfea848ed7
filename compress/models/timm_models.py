"""Networks of timm, where it can be imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compress.errors import UsageError
from compress.models.weights import fill
from compress.optional import import_or_explain


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network with new weights; `arguments` are those of `timm.create_model`.

    Raises:
        UsageError: timm is absent or broken, or does not know the network or an argument.
    """
    timm = import_or_explain("timm", "vision")
    try:
        return timm.create_model(name, **{**arguments, "pretrained": False})  # type: ignore[no-any-return]
    except (RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"timm: {name}: {error}") from error


def load_published(module: nn.Module, name: str, arguments: Mapping[str, Any], new_head: bool) -> None:
    """Fill what `build` made with timm's published weights, but for the classifier where `new_head` asks for that.

    timm itself adapts the first layer's weights to another number of input channels.

    Raises:
        UsageError: the weights cannot be had, or do not fit; lists every difference.
    """
    timm = import_or_explain("timm", "vision")
    theirs = {key: value for key, value in arguments.items() if key != "num_classes"}
    try:
        source = timm.create_model(name, **theirs, pretrained=True)
    except Exception as error:  # hub, network and weight errors of many kinds
        raise UsageError(f"timm: the weights of {name} cannot be had: {error}") from error
    head = source.pretrained_cfg.get("classifier", ()) if new_head else ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    fill(module, source.state_dict(), f"timm's weights of {name}", keep=heads)
