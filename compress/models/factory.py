"""From settings to a network: a factory is plain data that makes the same network anywhere, without its weights."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.errors import UsageError
from compress.models import (
    timm_models,
    torchvision_models,
    transformers_library,
    transformers_text,
    transformers_vision,
)
from compress.models.need import Need
from compress.models.settings import ModelSettings
from compress.models.weights import load_weights
from compress.models.zoo.names import match
from compress.models.zoo.table import build_zoo
from compress.user_code import call, load_function


@dataclass(frozen=True)
class Factory:
    """What makes a network: `source` (a key of `BUILDERS`), the network's `name` there, and plain `arguments`.

    `code` is the folder beside which the Python file or module of a user's own network is found; it is where the
    factory was read from or made, and no path of it is written down.
    """

    source: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    code: Path | None = None


def factory_for(settings: ModelSettings, need: Need) -> Factory:
    """The factory of a network that takes and gives what data and task need.

    Where the network can be told them, the number of classes, of input channels, of tokens and the like are filled in.

    Raises:
        UsageError: there is no such network, or it cannot take such inputs or give such outputs.
    """
    return FACTORIES[settings.source](settings, need)


def build(factory: Factory, seed: int | None = None) -> nn.Module:
    """The network with new weights, which depend on `seed` alone (0 where they do not matter).

    Global random generators are left as they were.

    Raises:
        UsageError: the network's library is absent, or the user's function fails or returns something else.
    """
    with _seeded(seed or 0):
        module = BUILDERS[factory.source](factory)
    if not isinstance(module, nn.Module):
        raise UsageError(f"{factory.name}: must return a torch.nn.Module, not {type(module).__name__}")
    return module


def load_initial_weights(module: nn.Module, settings: ModelSettings, factory: Factory) -> None:
    """Fill what `build(factory)` gave with its published weights or its file of weights, if the settings name any.

    Raises:
        UsageError: weights cannot be read or do not fit; lists every difference.
    """
    new_head = settings.head == "new"
    inner = module.network if isinstance(module, transformers_vision.Logits | transformers_text.Answer) else module
    if isinstance(settings.transformers, str):
        auto_class = transformers_text.HEADS.get(factory.arguments.get("head", ""), transformers_vision.AUTO_CLASS)
        given = settings.transformers
        transformers_library.load_published(inner, auto_class, given, settings.arguments, new_head)
    elif settings.timm is not None and settings.arguments.get("pretrained"):
        timm_models.load_published(module, settings.timm, factory.arguments, new_head)
    elif settings.torchvision is not None and settings.arguments.get("weights") is not None:
        torchvision_models.load_published(module, settings.torchvision, settings.arguments["weights"], new_head)
    if settings.weights is not None:
        load_weights(inner, Path(settings.weights))


def _zoo(settings: ModelSettings, need: Need) -> Factory:
    assert settings.zoo is not None
    family, _ = match(settings.zoo)
    channels, height, width = need.one_image(settings.zoo)
    if min(height, width) < family.smallest:
        raise UsageError(
            f"{settings.zoo} needs images of at least {family.smallest}x{family.smallest} pixels; "
            f"the data give {height}x{width}: enlarge them in the preprocessing (`resize`)"
        )
    arguments: dict[str, Any] = {
        "num_classes": need.vector(settings.zoo),
        "in_channels": channels,
        "width": 1.0 if settings.width is None else float(settings.width),
    }
    if family.shortcut is not None:
        arguments["shortcut"] = settings.shortcut or family.shortcut
    return Factory("zoo", settings.zoo, arguments)


def _transformers(settings: ModelSettings, need: Need) -> Factory:
    given, new_head = settings.transformers, settings.head == "new"
    assert given is not None
    if need.text is None:
        config = transformers_vision.configuration(given, settings.arguments, need, new_head)
        return Factory("transformers", config["model_type"], {"config": config})
    config = transformers_text.configuration(given, settings.arguments, need, new_head)
    head, inputs = transformers_text.head_for(need.task), list(need.input_names)
    return Factory("transformers", config["model_type"], {"config": config, "head": head, "inputs": inputs})


def _timm(settings: ModelSettings, need: Need) -> Factory:
    assert settings.timm is not None
    channels, _, _ = need.one_image(settings.timm)
    filled = {"num_classes": need.vector(settings.timm), "in_chans": channels, **settings.arguments}
    return Factory("timm", settings.timm, {key: value for key, value in filled.items() if key != "pretrained"})


def _torchvision(settings: ModelSettings, need: Need) -> Factory:
    assert settings.torchvision is not None
    if need.text is not None:
        need.one_image(settings.torchvision)
    filled = {"num_classes": need.vector(settings.torchvision), **settings.arguments}
    return Factory("torchvision", settings.torchvision, {k: v for k, v in filled.items() if k != "weights"})


def _python(settings: ModelSettings, need: Need) -> Factory:
    """`num_classes`, `in_channels` and `vocabulary_size` are filled in where the function has such parameters."""
    assert settings.python is not None
    function = load_function(settings.python, settings.base)
    known: dict[str, Any] = {}
    if need.text is not None:
        known["vocabulary_size"] = need.text.vocabulary_size
    elif need.input_shapes and need.input_shapes[0]:
        known["in_channels"] = need.input_shapes[0][0]
    if isinstance(need.output_size, int) or len(need.output_size) == 1:
        known["num_classes"] = need.vector(settings.python)
    accepted = _parameters(function)
    filled = {key: value for key, value in known.items() if key in accepted}
    return Factory("python", settings.python, {**filled, **settings.arguments}, settings.base)


def _build_python(factory: Factory) -> nn.Module:
    function = load_function(factory.name, factory.code)
    return call(factory.name, function, **factory.arguments)  # type: ignore[no-any-return]


def _build_transformers(factory: Factory) -> nn.Module:
    if "head" in factory.arguments:
        return transformers_text.build(**factory.arguments)
    return transformers_vision.build(**factory.arguments)


FACTORIES: Mapping[str, Callable[[ModelSettings, Need], Factory]] = {
    "zoo": _zoo,
    "transformers": _transformers,
    "timm": _timm,
    "torchvision": _torchvision,
    "python": _python,
}

BUILDERS: Mapping[str, Callable[[Factory], nn.Module]] = {
    "zoo": lambda factory: build_zoo(factory.name, **factory.arguments),
    "transformers": _build_transformers,
    "timm": lambda factory: timm_models.build(factory.name, factory.arguments),
    "torchvision": lambda factory: torchvision_models.build(factory.name, factory.arguments),
    "python": _build_python,
}


def _parameters(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in callables have none to show
        return set()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's global generators start from `seed` inside and go on as before afterwards."""
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
