"""Weights from a file into a network: all of them, or a list of what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError

NESTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "weights",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "ema",
)
"""Keys under which training programs put the weights; where a file has several, the first of these is read."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What wrappers put before every name: DataParallel, `torch.compile`, Lightning and others."""

_COUNTER = "num_batches_tracked"
_MOST_LISTED = 20


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill all parameters and persistent buffers of `module` from a safetensors or PyTorch file.

    A file from before PyTorch 0.4.1, in which batch norms have no counters (they are not used for anything but
    `momentum=None`), sets these to 0, as PyTorch does.

    Raises:
        UsageError: the file cannot be read without running code from it, or does not fit; lists every difference.
    """
    fill(module, read_weights(path), path.name)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; nests such as `{"state_dict": ...}` are opened.

    Raises:
        UsageError: the file is absent, broken, holds no weights, or could only be read by running code from it.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of weights")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise UsageError(f"{path}: no readable safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path}: holds more than tensors, and reading it would run code from it; in the program that wrote it, "
            "save `model.state_dict()` or use safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: no file of weights that torch can read: {error}") from error
    return _open_nests(content, path)


def fill(module: nn.Module, weights: Mapping[str, Tensor], name: str, keep: Sequence[str] = ()) -> None:
    """Copy `weights` (called `name` in messages) into `module`, whose submodules at the paths `keep` stay as they are.

    Raises:
        UsageError: weights are missing, left over, or of another shape or kind; lists all of them. Nothing is changed.
    """
    own = module.state_dict()
    given = _without_wrappers(weights, own)
    kept = {key for key in own if any(key.startswith(f"{path}.") for path in keep)}
    given = {key: value for key, value in given.items() if key not in kept}
    counters = {key for key in own if key.rpartition(".")[2] == _COUNTER}
    if not any(key.rpartition(".")[2] == _COUNTER for key in given):
        given |= {key: torch.zeros_like(own[key]) for key in counters - kept}
    faults = _differences({key: value for key, value in own.items() if key not in kept}, given)
    if faults:
        raise UsageError(f"{name}: the weights do not fit the network:\n" + "\n".join(faults))
    module.load_state_dict({**own, **given})


def _open_nests(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and not _is_weights(content):
        nest = next((key for key in NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        content = content[nest]
    if not isinstance(content, Mapping) or not _is_weights(content):
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise UsageError(f"{path}: holds no weights by name; found {found[:200] or 'nothing'}")
    return dict(content)


def _is_weights(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _without_wrappers(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers put before all of them, unless the network's own names begin that way."""
    given = dict(weights)
    while given:
        prefix = next((p for p in WRAPPERS if all(key.startswith(p) for key in given)), None)
        if prefix is None or any(key.startswith(prefix) for key in own):
            break
        given = {key.removeprefix(prefix): value for key, value in given.items()}
    return given


def _differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    common = own.keys() & given.keys()
    shapes = [
        f"{key}: {tuple(given[key].shape)} in the file, {tuple(own[key].shape)} in the network"
        for key in own
        if key in common and given[key].shape != own[key].shape
    ]
    kinds = [
        f"{key}: {given[key].dtype} in the file, {own[key].dtype} in the network"
        for key in own
        if key in common and given[key].is_floating_point() != own[key].is_floating_point()
    ]
    return [
        *_listed("missing in the file", [key for key in own if key not in given]),
        *_listed("in the file but not in the network", [key for key in given if key not in own]),
        *_listed("of another shape", shapes),
        *_listed("of another kind", kinds),
    ]


def _listed(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = [f"    ... and {len(items) - _MOST_LISTED} more"] if len(items) > _MOST_LISTED else []
    return [f"  {title} ({len(items)}):", *(f"    {item}" for item in items[:_MOST_LISTED]), *rest]
