"""How a network differs from what its factory makes, written as results: sizes, attributes, layers gone or exchanged.

An edit says what a module is now, not how it became so: a network pruned by any library, or by hand, is read back
without that library.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.plain import NotPlainError, alike, from_json, to_json

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Edit:
    """One module as it is now.

    `path` is its dotted path, `""` for the network itself; `made` is the name of a `torch.nn` class where the module
    is not the factory's. `attributes` are those that differ, as `compress.models.plain` writes them; `tensors` are the
    parameters and buffers that differ (see `_tensors`); `gone` are attributes, parameters and buffers that are no
    more; `children` are (name, whether it is not None) of its children in order, where they differ.
    """

    path: str
    made: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    children: tuple[tuple[str, bool], ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data, without what does not differ; tensors as pairs, because their order is the network's."""
        written = {**vars(self), "tensors": tuple(self.tensors.items())}
        return {key: value for key, value in written.items() if key == "path" or value not in (None, {}, ())}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Edit:
        """The inverse of `as_json`, after a trip through JSON (which turns tuples into lists)."""
        children = data.get("children")
        pairs = None if children is None else tuple((name, there) for name, there in children)
        tensors = dict(data.get("tensors", ()))
        return cls(**{**data, "tensors": tensors, "gone": tuple(data.get("gone", ())), "children": pairs})


def describe_edits(module: nn.Module, fresh: nn.Module) -> list[Edit]:
    """What turns `fresh`, as its factory made it, into `module`, but for the values of parameters and buffers.

    Raises:
        UsageError: something differs that cannot be written as plain data; lists all of it and says what to do.
    """
    networks = (module, fresh)
    description = _Description({id(t) for network in networks for t in (*network.parameters(), *network.buffers())})
    description.visit(module, fresh, "")
    if description.faults:
        raise UsageError(
            "the network cannot be written down as changes to what makes it:\n  " + "\n  ".join(description.faults)
        )
    return description.edits


def apply_edits(fresh: nn.Module, edits: Iterable[Edit]) -> nn.Module:
    """Turn what the factory made into what the edits say, in place; changed parameters and buffers are not filled.

    Returns the network, which is another object than `fresh` only if an edit exchanges the whole network.
    """
    holder = nn.Sequential()
    holder.add_module("root", fresh)
    for edit in edits:
        parent_path, _, name = f"root.{edit.path}".rstrip(".").rpartition(".")
        parent = holder.get_submodule(parent_path)
        if edit.made is not None:
            parent._modules[name] = _made(edit.made)
        _apply(edit, parent.get_submodule(name))
    return holder.get_submodule("root")


def _apply(edit: Edit, module: nn.Module) -> None:
    for name in edit.gone:
        delattr(module, name)
    for name, value in edit.attributes.items():
        setattr(module, name, from_json(value))
    for name, description in edit.tensors.items():
        _set_tensor(module, name, description)
    if edit.children is not None:
        # a child that is not there yet is None until its own edit, which comes later, makes it
        module._modules = {name: module._modules.get(name) if there else None for name, there in edit.children}


class _Description:
    """Edits and faults found while two networks are walked side by side; `state` are their tensors' ids."""

    def __init__(self, state: Collection[int]) -> None:
        self.state = state
        self.edits: list[Edit] = []
        self.faults: list[str] = []
        self.seen: dict[int, nn.Module | None] = {}

    def visit(self, module: nn.Module, fresh: nn.Module | None, path: str) -> None:
        """Describe one module and its children; a module that stands at several paths once."""
        if id(module) in self.seen:
            if self.seen[id(module)] is not fresh:
                self.fault(path, "shares a module with another path, and did not when the factory made it")
            return
        self.seen[id(module)] = fresh
        made = None
        if fresh is None or _class_name(fresh) != _class_name(module):
            if not _can_be_made(module):
                before = "nothing" if fresh is None else f"a {_class_name(fresh)}"
                self.fault(
                    path,
                    f"is a {_class_name(module)} where the factory makes {before}; only simple layers of torch.nn can "
                    "be exchanged: change the function that makes the network instead",
                )
                return
            made = type(module).__name__
            fresh = _made(made)
        self.compare(module, fresh, path, made)
        for name, child in module._modules.items():
            if child is not None:
                self.visit(child, fresh._modules.get(name), f"{path}.{name}" if path else name)

    def compare(self, module: nn.Module, fresh: nn.Module, path: str, made: str | None) -> None:
        """Describe one module without its children."""
        own, before = _attributes(module), _attributes(fresh)
        tensors, tensors_before = _tensors(module), _tensors(fresh)
        gone = sorted((before.keys() | tensors_before.keys()) - (own.keys() | tensors.keys()))
        children, children_before = _children(module), _children(fresh)
        edit = Edit(
            path,
            made,
            self.changed(own, before, path),
            {name: described for name, described in tensors.items() if tensors_before.get(name) != described},
            tuple(gone),
            children if children != children_before else None,
        )
        if edit != Edit(path):
            self.edits.append(edit)
        if len(module._forward_hooks) + len(module._forward_pre_hooks) > len(fresh._forward_hooks) + len(
            fresh._forward_pre_hooks
        ):
            self.fault(path, "has forward hooks, which are code and cannot be written down: remove them")
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            self.fault(path, "keeps extra state (`get_extra_state`): keep it in buffers")

    def changed(self, own: Mapping[str, Any], before: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The attributes that differ, as plain data."""
        result = {}
        for name, value in own.items():
            try:
                written = to_json(value)
            except NotPlainError:
                if name not in before or not alike(value, before[name], self.state):
                    hint = ": register it as a buffer" if isinstance(value, Tensor) else ""
                    self.fault(path, f"has an attribute {name!r} ({type(value).__name__}) of another value{hint}")
                continue
            if name not in before or not _same(written, before[name]):
                result[name] = written
        return result

    def fault(self, path: str, message: str) -> None:
        """Note something that cannot be described."""
        self.faults.append(f"{path or 'the network'} {message}")


def _same(written: Any, value: Any) -> bool:
    """Whether `value` is the plain data `written`; as text, for 1 is not True and nan is nan."""
    try:
        return json.dumps(written) == json.dumps(to_json(value))
    except NotPlainError:
        return False


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _children(module: nn.Module) -> tuple[tuple[str, bool], ...]:
    return tuple((name, child is not None) for name, child in module._modules.items())


def _tensors(module: nn.Module) -> dict[str, dict[str, Any]]:
    """What each parameter and buffer is: kind (`parameter`, `buffer`, or `passing` if not persistent), shape, dtype."""

    def described(kind: str, tensor: Tensor | None) -> dict[str, Any]:
        if tensor is None:
            return {"kind": kind, "shape": None}
        return {"kind": kind, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}

    passing = module._non_persistent_buffers_set
    parameters = {name: described("parameter", value) for name, value in module._parameters.items()}
    buffers = {n: described("passing" if n in passing else "buffer", value) for n, value in module._buffers.items()}
    return parameters | buffers


def _set_tensor(module: nn.Module, name: str, description: Mapping[str, Any]) -> None:
    """Give `module` an unfilled parameter or buffer that fits its description."""
    old = module._parameters.get(name)
    tensor = None
    if description["shape"] is not None:
        tensor = torch.zeros(description["shape"], dtype=getattr(torch, description["dtype"]))
    is_parameter = description["kind"] == "parameter"
    if is_parameter and name in module._parameters:
        new = None if tensor is None else nn.Parameter(tensor, requires_grad=old is None or old.requires_grad)
        setattr(module, name, new)  # not into the dictionary: recurrent layers keep a list of their own
        return
    if not is_parameter and name in module._buffers:
        module.register_buffer(name, tensor, persistent=description["kind"] == "buffer")
        return
    if hasattr(module, name):  # as something else
        delattr(module, name)
    if is_parameter:
        module.register_parameter(name, None if tensor is None else nn.Parameter(tensor))
    else:
        module.register_buffer(name, tensor, persistent=description["kind"] == "buffer")


def _can_be_made(module: nn.Module) -> bool:
    of_torch = getattr(nn, type(module).__name__, None) is type(module)
    return of_torch and (isinstance(module, _CONTAINERS) or not any(True for _ in module.children()))


def _made(name: str) -> nn.Module:
    """A bare module of a `torch.nn` class: its attributes and tensors are set from the edit."""
    kind = getattr(nn, name)
    module: nn.Module = kind.__new__(kind)
    nn.Module.__init__(module)
    return module


def _class_name(module: nn.Module) -> str:
    """A class's name, with its module only where that is torch's: a user's file may be read under another name."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__.startswith("torch.") else kind.__qualname__
