"""What a network says and what lies inside of it, in one shape for any network.

A *point* is the path of a module, whose output is taken, or `path:input`, which is its first input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError

INPUT = ":input"


@dataclass(frozen=True)
class Top:
    """The likeliest tokens of each position: `indices` and `log_probabilities` (..., k).

    `log_rest` (...) is that of all others; probabilities are those of softmax(logits / `temperature`) over a
    `vocabulary` of so many tokens.
    """

    indices: Tensor
    log_probabilities: Tensor
    log_rest: Tensor
    temperature: float
    vocabulary: int

    def at(self, counted: Tensor) -> Top:
        """The positions that count, in rows; `counted` is boolean, as many as there are positions."""
        return Top(
            self.indices.flatten(0, -2)[counted],
            self.log_probabilities.flatten(0, -2)[counted],
            self.log_rest.flatten()[counted],
            self.temperature,
            self.vocabulary,
        )


@dataclass(frozen=True)
class Seen:
    """The logits of one forward pass, and the tensors at the points that were asked for.

    Of a teacher whose answers to texts were kept, `top` stands in for the logits, which are empty.
    """

    logits: Tensor
    points: Mapping[str, Tensor] = field(default_factory=dict)
    top: Top | None = None


def observe(module: nn.Module, inputs: tuple[Tensor, ...], points: Iterable[str] = ()) -> Seen:
    """Run `module` once; its output, and what passed the points on the way.

    Raises:
        UsageError: a module that a point names was not run, or gives no tensor.
    """
    wanted = tuple(dict.fromkeys(points))
    if not wanted:
        return Seen(module(*inputs))
    with watched(module, wanted) as seen:
        logits = module(*inputs)
    missing = [point for point in wanted if point not in seen]
    if missing:
        raise UsageError(f"losses: the network does not run its module {missing[0].removesuffix(INPUT)!r}")
    return Seen(logits, seen)


@contextmanager
def watched(module: nn.Module, points: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Inside the block, each forward pass of `module` leaves the tensors at the points in the dictionary."""
    seen: dict[str, Tensor] = {}
    handles = []
    for point in points:
        owner = module.get_submodule(point.removesuffix(INPUT))
        if point.endswith(INPUT):
            handles.append(owner.register_forward_pre_hook(_input_hook(point, seen), with_kwargs=True))
        else:
            handles.append(owner.register_forward_hook(_output_hook(point, seen)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _output_hook(point: str, seen: dict[str, Tensor]) -> Any:
    def hook(owner: nn.Module, arguments: Any, output: Any) -> None:
        seen[point] = _tensor(output, point)

    return hook


def _input_hook(point: str, seen: dict[str, Tensor]) -> Any:
    def hook(owner: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen[point] = _tensor((*arguments, *named.values()), point)

    return hook


def _tensor(value: Any, point: str) -> Tensor:
    """The first floating-point tensor of what a module takes or gives."""
    candidates = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else (value,)
    )
    for candidate in candidates:
        if isinstance(candidate, Tensor) and candidate.is_floating_point():
            return candidate
    raise UsageError(f"losses: the module at {point!r} gives no tensor of floating-point numbers")
