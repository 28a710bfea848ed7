"""Networks of torchvision, where it can be imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compress.errors import UsageError
from compress.models.weights import fill
from compress.optional import import_or_explain


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network with new weights; `arguments` are those of `torchvision.models.get_model` but for `weights`.

    Raises:
        UsageError: torchvision is absent or broken, or does not know the network or an argument.
    """
    models = import_or_explain("torchvision.models", "vision")
    given = {key: value for key, value in arguments.items() if key != "weights"}
    try:
        return models.get_model(name, weights=None, **given)  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise UsageError(f"torchvision: {name}: {error}") from error


def load_published(module: nn.Module, name: str, weights: str, new_head: bool) -> None:
    """Fill a network with published `weights` (`DEFAULT`, `IMAGENET1K_V1`, ...), but for a new head where asked.

    The head is the last module that has parameters, which is where torchvision's classifiers have theirs.

    Raises:
        UsageError: there are no such weights, or they do not fit; lists every difference.
    """
    models = import_or_explain("torchvision.models", "vision")
    try:
        state = models.get_model_weights(name)[weights].get_state_dict(progress=False, check_hash=True)
    except KeyError as error:
        known = ", ".join(models.get_model_weights(name).__members__)
        raise UsageError(f"torchvision: {name} has no weights called {weights!r}; it has {known}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"torchvision: the weights of {name} cannot be had: {error}") from error
    last = [path for path, part in module.named_modules() if list(part.parameters(recurse=False))][-1]
    fill(module, state, f"torchvision's weights {weights} of {name}", keep=(last,) if new_head else ())
