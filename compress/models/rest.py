"""A network at rest: `model.json` (factory, edits, hash of its state) and `weights.safetensors`; no pickle.

All parameters and all buffers are written, those too that a state dictionary leaves out. Reading makes the network
anew, applies the edits, fills it, and compares the hash of its state: it is bit-equal, or there is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.code import write_code
from compress.models.edits import Edit, apply_edits, describe_edits
from compress.models.factory import Factory, build
from compress.models.weights import read_weights

MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


def save(module: nn.Module, factory: Factory, folder: Path, extra: dict[str, Any] | None = None) -> None:
    """Write `module`, which began as what `factory` makes, into `folder`; `extra` is plain data to keep with it.

    The network is rebuilt from what will be written before anything is, and its state compared.

    Raises:
        UsageError: the network differs from what its factory makes in ways that plain data cannot say.
    """
    fresh = build(factory)
    edits = describe_edits(module, fresh)
    tensors, ties = _unique_tensors(module)
    rebuilt = apply_edits(fresh, edits)
    _fill(rebuilt, tensors, ties)
    digest = state_digest(module)
    if state_digest(rebuilt) != digest or describe_edits(module, rebuilt):
        raise AssertionError("a description of the network did not give the network back")  # a bug of ours
    folder.mkdir(parents=True, exist_ok=True)
    written = write_code(factory, folder)
    content = {
        "format": 1,
        "factory": _factory_as_json(written),
        "edits": [edit.as_json() for edit in edits],
        "ties": ties,
        "state_sha256": digest,
        "extra": extra or {},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    from safetensors.torch import save_file

    save_file(tensors, folder / WEIGHTS_FILE)


def load(folder: Path) -> nn.Module:
    """The network that lies in `folder`, in evaluation mode, on the CPU.

    Raises:
        UsageError: its files are absent, changed, or its code or library is not what it was.
    """
    content = _read(folder)
    module = apply_edits(build(_factory_from_json(content["factory"], folder)), map(Edit.from_json, content["edits"]))
    _fill(module, read_weights(folder / WEIGHTS_FILE), content["ties"])
    if state_digest(module) != content["state_sha256"]:
        raise UsageError(f"{folder / WEIGHTS_FILE}: the weights are not those that were written")
    return module.eval()


def read_factory(folder: Path) -> Factory:
    """The factory of the network that lies in `folder`."""
    return _factory_from_json(_read(folder)["factory"], folder)


def read_extra(folder: Path) -> dict[str, Any]:
    """What `save` was given as `extra`."""
    extra: dict[str, Any] = _read(folder)["extra"]
    return extra


def state_digest(module: nn.Module) -> str:
    """sha256 over the names, dtypes, shapes and bits of all parameters and buffers."""
    total = hashlib.sha256()
    for name, _, _, tensor in sorted(_tensors(module), key=lambda item: item[0]):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _tensors(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """(name, its module, its name there, tensor) of every parameter and buffer, under each of its names."""
    for path, owner in module.named_modules(remove_duplicate=False):
        for key, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            if tensor is not None:
                yield f"{path}.{key}" if path else key, owner, key, tensor


def _unique_tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, copied to the CPU, and for each further name of one the name under which it stands."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    ties: dict[str, str] = {}
    for name, _, _, tensor in _tensors(module):
        if id(tensor) in names:
            ties[name] = names[id(tensor)]
        else:
            names[id(tensor)] = name
            tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return tensors, ties


def _fill(module: nn.Module, tensors: dict[str, Tensor], ties: dict[str, str]) -> None:
    """Put the values in, and make those names share a tensor that shared one.

    Raises:
        UsageError: names, shapes or dtypes are not the network's.
    """
    places = {name: (owner, key) for name, owner, key, _ in _tensors(module)}
    known = tensors.keys() | ties.keys()
    if places.keys() != known:
        different = ", ".join(sorted(places.keys() ^ known)[:10])
        raise UsageError(f"the weights at rest and the network that its code makes differ in: {different}")
    taken: set[int] = set()
    for name, tensor in tensors.items():
        owner, key = places[name]
        old = getattr(owner, key)
        if old.shape != tensor.shape or old.dtype != tensor.dtype:
            raise UsageError(
                f"{name}: {tensor.dtype} {tuple(tensor.shape)} at rest, {old.dtype} {tuple(old.shape)} in the network "
                "that its code makes"
            )
        if not isinstance(old, nn.Parameter):
            setattr(owner, key, tensor.clone())
        elif id(old) in taken:  # the factory ties what was untied since
            setattr(owner, key, nn.Parameter(tensor.clone(), requires_grad=old.requires_grad))
        else:
            with torch.no_grad():  # in place: recurrent layers keep a list of their own
                old.copy_(tensor)
        taken.add(id(getattr(owner, key)))
    for name, first in ties.items():
        (owner, key), (first_owner, first_key) = places[name], places[first]
        if getattr(owner, key) is not getattr(first_owner, first_key):
            setattr(owner, key, getattr(first_owner, first_key))


def _read(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / MODEL_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: holds no network that compress has written: {error}") from error
    return content


def _factory_as_json(factory: Factory) -> dict[str, Any]:
    code = {} if factory.code is None else {"code": str(factory.code)}
    return {"source": factory.source, "name": factory.name, "arguments": factory.arguments, **code}


def _factory_from_json(data: dict[str, Any], folder: Path) -> Factory:
    code = None if "code" not in data else (folder / data["code"]).resolve()
    return Factory(data["source"], data["name"], data["arguments"], code)
