"""Running a network once, on an example, and following the labels of its channels through every operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from compress.modes import evaluating
from compress.pruning.heads import Attention, AttentionPart, Split, head_axis
from compress.pruning.labels import FREE, RIGID, Axis, Ids, Labels
from compress.pruning.layers import SelfPruning, is_norm, layout
from compress.pruning.operators import RULES
from compress.pruning.rules import Axes, Rule, is_pointwise, pointwise, unknown

OUTPUT = "its channels are the network's output"


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The labels of a network's parameters, `leaves` by name, as operators that run inside of it join them.

    `own` are those of the inputs and outputs of the modules that take their channels away themselves, `attention` is
    known once all is settled: `part` of it shall go.
    """

    def __init__(self, module: nn.Module, part: AttentionPart) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.labels, self.part = Labels(), part
        self.attention = Attention((), self.labels.within(()), part)
        self._multiplied: list[Axis] = []
        self.leaves: dict[str, Axes] = {}
        self._splits: list[Split] = []
        self.own: dict[str, tuple[Ids, Ids]] = {}
        self._axes: Any = WeakIdKeyDictionary()
        self._names: dict[int, list[str]] = {}
        for name, tensor in _state(module):
            self._names.setdefault(id(tensor), []).append(name)
        self._stack: list[tuple[str, nn.Module]] = []
        self._opaque = 0

    def axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor: known, of a parameter, or none that can lose anything."""
        if tensor in self._axes:
            return self._axes[tensor]  # type: ignore[no-any-return]
        found: Axes = [FREE if size == 1 else RIGID for size in tensor.shape]
        if id(tensor) in self._names:
            found = [FREE if size == 1 else self.labels.fresh(size) for size in tensor.shape]
            self.leaves.update(dict.fromkeys(self._names[id(tensor)], found))
        self._axes[tensor] = found
        return found

    def chosen(self, sizes: Sequence[int], asked: Sequence[int]) -> int | None:
        """The axis of heads, if the module at work counts them, or the one whose size the network left open."""
        kept = [number for number, size in enumerate(sizes) if size > 1]
        if len(kept) < 2:
            return None
        heads = head_axis(self._stack[-1][1], [sizes[number] for number in kept])
        if heads is not None:
            return kept[heads + (self.part == "head_width")]
        return next((number for number in kept if asked[number] == -1), None)

    def in_norm(self) -> bool:
        """Whether the module at work is a norm."""
        return bool(self._stack) and is_norm(self._stack[-1][1])

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator, and say what stands along the axes of its result."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._opaque:
            self._follow(func, args, kwargs, out)
        return out

    def _follow(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        results = [out] if isinstance(out, Tensor) else list(out) if isinstance(out, tuple | list) else []
        if not any(isinstance(result, Tensor) for result in results):
            return
        given = [x for x in pytree.tree_leaves((args, dict(kwargs))) if isinstance(x, Tensor)]
        rule = RULES.get(func.overloadpacket.__name__) or (pointwise if is_pointwise(func) else None)
        found: Any = None if not given or rule is None else self._ruled(rule, func, args, kwargs, out)
        if found is None:
            bare = FREE if not given else RIGID
            unknown(self, given, self._unknown(func))
            found = [[bare] * result.dim() if isinstance(result, Tensor) else [] for result in results]
        for result, axes in zip(results, found, strict=True):
            if isinstance(result, Tensor):
                self._axes[result] = [FREE if size == 1 else a for a, size in zip(axes, result.shape, strict=True)]
        self._note_split(func, args, results)
        if func.overloadpacket.__name__ == "bmm":
            self._multiplied.append(self.axes(args[0])[-1])

    def _ruled(
        self, rule: Rule, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> list[Axes] | None:
        """The axes of each result; None where the rule does not know that use of the operator."""
        results = [out] if isinstance(out, Tensor) else out
        try:
            found = rule(self, args, kwargs, out)
            found = [found] if isinstance(out, Tensor) else found
            pairs = [(axes, x) for axes, x in zip(found, results, strict=True) if isinstance(x, Tensor)]
        except Exception:
            return None
        return list(found) if all(len(axes) == x.dim() for axes, x in pairs) else None

    def _note_split(self, func: Any, args: Sequence[Any], results: Sequence[Any]) -> None:
        """Where a view makes an axis of heads, remember it."""
        if func.overloadpacket.__name__ not in ("view", "_unsafe_view", "reshape") or not self._stack:
            return
        path, part = self._stack[-1]
        axes, shape = self._axes[results[0]], results[0].shape
        if results[0].dim() <= args[0].dim():
            return
        before = [id(axis) for axis in self.axes(args[0])]
        for place in range(len(shape) - 1):
            sizes, labels = shape[place : place + 2], axes[place : place + 2]
            made = all(isinstance(each, np.ndarray) and id(each) not in before for each in labels)
            if made and head_axis(part, list(sizes)) == 0:
                self._splits.append(Split(path, labels[self.part == "head_width"], *sizes))

    def _unknown(self, func: Any) -> str:
        if not self._stack:
            return f"{func.overloadpacket.__name__} cannot lose channels"
        path, part = self._stack[-1]
        operator = "" if not any(True for _ in part.children()) else f", {func.overloadpacket.__name__}"
        return f"{path or 'the network'} ({type(part).__name__}{operator}) cannot lose channels"

    def settle(self) -> None:
        """All has run: decide what goes of what was reshaped."""
        self.attention = Attention(tuple(self._splits), self.labels.within(self._multiplied), self.part)
        if self.part == "head_width":  # a module has one number for the size of queries, keys and values
            first: dict[tuple[str, int], Split] = {}
            for split in self._splits:
                self.labels.join(first.setdefault((split.path, split.size), split).labels, split.labels)
        self.labels.settle()

    def enter(self, path: str, part: nn.Module) -> None:
        """A module begins."""
        self._stack.append((path, part))
        self._opaque += isinstance(part, SelfPruning)

    def leave(self, path: str, part: nn.Module, inputs: Any, output: Any) -> None:
        """A module has ended."""
        self._stack.pop()
        if isinstance(part, SelfPruning):
            self._opaque -= 1
            axes = self.axes(inputs[0])
            sides = self.own.setdefault(
                path, (self.labels.fresh(part.in_channels), self.labels.fresh(part.out_channels))
            )
            self.labels.join(axes[1], sides[0])
            self._axes[output] = [axes[0], sides[1], *axes[2:]]


def run(module: nn.Module, inputs: Sequence[Tensor], part: AttentionPart = "heads") -> Trace:
    """Let `module` answer in evaluation mode; it is left as it was. Of attention `part` shall go.

    Whatever the network raises is raised.
    """
    trace = Trace(module, part)
    with evaluating(module), torch.no_grad(), _plain(), _watched(module, trace), trace:
        outputs = module(*inputs)
    for output in pytree.tree_leaves(outputs):
        if isinstance(output, Tensor):
            for axis in trace.axes(output):
                trace.labels.fix(axis, OUTPUT, over=True)
    trace.settle()
    return trace


@contextmanager
def _watched(module: nn.Module, trace: Trace) -> Iterator[None]:
    """Tell the trace which module is at work."""
    handles: list[Any] = []

    def entering(path: str) -> Callable[..., None]:
        return lambda part, arguments: trace.enter(path, part)

    def leaving(path: str) -> Callable[..., None]:
        return lambda part, arguments, output: trace.leave(path, part, arguments, output)

    try:
        for path, part in module.named_modules():
            handles.append(part.register_forward_pre_hook(entering(path)))
            handles.append(part.register_forward_hook(leaving(path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _plain() -> Iterator[None]:
    """Attention as products of matrices, not as fused kernels that hide what they do."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        before = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, before)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, and the buffers that layers keep for each channel."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in part.named_parameters(recurse=False):
            yield prefix + name, parameter
        found = layout(part, "out")
        slots = {slot.name for slot in found.slots} if found else set()
        for name, buffer in part.named_buffers(recurse=False):
            if name in slots:
                yield prefix + name, buffer
