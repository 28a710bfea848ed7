"""Channels that stay take over what those that go did, as far as it can be told from them: least squares, no training.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (arXiv:1707.06168), equations 1
and 5: with the inputs that are left, each layer's outputs are reconstructed. Here in closed form, before the cut: of
W x = W_left x_left + W_gone x_gone the second part is predicted from what stays, W_gone x_gone ~ C x_left, so that the
layer becomes (W_left + C) x_left. The strength of the ridge is chosen on examples that C was not fitted to; a layer to
which no C does good there keeps its weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from compress.modes import evaluating
from compress.pruning.depth import bypassed
from compress.pruning.groups import Chosen, Group
from compress.pruning.ignore import is_under
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.layers import is_depthwise, layout
from compress.pruning.reading import add_to, has_constant, matrix_of, numbers_of, rows_of
from compress.pruning.surgery import removed_channels

RIDGES = (1e-4, 1e-3, 1e-2)
"""Strengths to choose from, over the mean square of what stays."""
ROWS = 32
"""Places to look at for each number that a layer reads at one of them: more say little more."""
WIDEST = 8192
"""Layers that read more numbers at a place are left as they are: their sums of products would fill the memory."""
LEAST_BYTES = 64 * 2**20
"""Sums of products may take half of what the network takes, or this where that is less; then layers go in turns."""
CHECKED = 4
"""Every so many-th batch is kept for choosing the ridge."""


@torch.no_grad()
def reconstruct(
    module: nn.Module,
    groups: Sequence[Group],
    removed: Chosen,
    batches: Sequence[LabelledBatch],
    dropped: Collection[str] = (),
    seed: int = 0,
) -> dict[str, float]:
    """Change the weights of `module`, in place, so that it needs the units `removed` less; then they can be cut.

    Layers are those that read channels which go: convolutions and linear layers whose weights are their own. Each is
    reconstructed by itself, from what it is given in the whole network.

    Args:
        module: the network, whole; its modes are kept.
        groups: its groups.
        removed: the units that will go, by group.
        batches: examples, without which nothing is done.
        dropped: blocks that will go as well.
        seed: of the places that are looked at.

    Returns:
        For each layer by path the squared error of its outputs over what it would be without a change, on examples
        that were not fitted to; 1 for a layer that keeps its weights.
    """
    readers = list(_readers(module, groups, removed, dropped)) if batches else []
    for part in _turns(readers, sum(p.numel() * p.element_size() for p in module.parameters())):
        with ExitStack() as stack, evaluating(module), bypassed(module, dropped):
            for reader in part:
                stack.enter_context(reader.layer.register_forward_pre_hook(partial(_note, reader, len(batches))))
            for number, (inputs, _) in enumerate(batches):
                for reader in part:
                    reader.start(number, torch.Generator().manual_seed(seed + number))
                module(*inputs)
        for reader in part:
            reader.solve()
    for reader in readers:  # not before: all are seen in the whole network
        reader.change()
    return {reader.path: reader.error for reader in readers}


@dataclass
class _Reader:
    """A layer that reads channels which go, and the sums of products of what it reads: to fit to, and to check on.

    A layer reads `width` numbers at a place for each of its convolution `groups`; `gone` are those of them that go.
    """

    path: str
    layer: Any
    groups: int
    width: int
    gone: tuple[tuple[int, ...], ...]
    sums: dict[bool, Tensor] = field(default_factory=dict)
    error: float = 1.0
    solved: Tensor | None = None
    number: int = 0
    generator: torch.Generator | None = None

    @property
    def bytes(self) -> int:
        """What the sums of products take."""
        return 2 * 4 * self.groups * (self.width + 1) ** 2

    def start(self, number: int, generator: torch.Generator) -> None:
        """The next batch is number so-and-so."""
        self.number, self.generator = number, generator

    def add(self, x: Tensor, batches: int) -> None:
        """Look at some places of an input."""
        wanted = -(-ROWS * (self.width + 1) // batches)
        rows = rows_of(self.layer, x, wanted, self.generator).reshape(-1, self.groups, self.width).transpose(0, 1)
        if has_constant(self.layer):
            rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], dim=2)
        last = batches - 1
        checks = self.number % CHECKED == CHECKED - 1 if batches >= CHECKED else self.number == last > 0
        self.sums[checks] = self.sums.get(checks, 0) + rows.transpose(1, 2) @ rows

    def change(self) -> None:
        """Take over what was found."""
        if self.solved is None:
            return
        add_to(self.layer, self.solved[:, :, : self.width])
        if has_constant(self.layer):
            self.layer.bias.add_(self.solved[:, :, self.width].flatten())

    def solve(self) -> None:
        """Find by what weights change, if anything helps, and the error that is left over that without a change."""
        if False not in self.sums:
            return
        matrix, fits, checks = matrix_of(self.layer).double(), self.sums[False], self.sums.get(True, self.sums[False])
        errors, whole = [0.0] * len(RIDGES), 0.0
        changes = [matrix.new_zeros(*matrix.shape[:2], fits.shape[-1]) for _ in RIDGES]
        for group, gone in enumerate(map(list, self.gone)):
            fit, check, weights = fits[group].double(), checks[group].double(), matrix[group][:, gone]
            left = sorted(set(range(len(fit))) - set(gone))
            whole += _dot(weights @ check[gone][:, gone], weights)
            own, wanted = fit[left][:, left], weights @ fit[gone][:, left]
            own_check, wanted_check = check[left][:, left], weights @ check[gone][:, left]
            for number, ridge in enumerate(RIDGES):
                change = _ridge(own, wanted, ridge)
                if change is None:
                    errors[number] = inf
                    continue
                errors[number] += _dot(change @ own_check - 2 * wanted_check, change)
                changes[number][group][:, left] = change
        self.sums.clear()
        best = min(range(len(RIDGES)), key=errors.__getitem__)
        if errors[best] < 0 < whole:
            self.error = max(0.0, 1 + errors[best] / whole)
            self.solved = changes[best].to(self.layer.weight.dtype)


def _ridge(own: Tensor, wanted: Tensor, strength: float) -> Tensor | None:
    """C that is nearest to y ~ C x: (outputs, inputs), from the sums of products x x' and y x'.

    None where the ridge is too weak for the last bits of the sums, which are of 32-bit numbers.
    """
    least = max(strength * own.diagonal().mean().item(), 1e-12)
    factor, failed = torch.linalg.cholesky_ex(own + least * torch.eye(len(own), dtype=own.dtype, device=own.device))
    return None if failed else torch.cholesky_solve(wanted.T, factor).T


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum())


def _readers(
    module: nn.Module, groups: Sequence[Group], removed: Chosen, dropped: Collection[str]
) -> Iterator[_Reader]:
    """The layers that read what goes, in the order of the network."""
    gone = {path: channels for (path, axis), channels in removed_channels(groups, removed).items() if axis == "in"}
    names: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)] = names.get(id(parameter), 0) + 1
    for path, layer in module.named_modules():
        channels = gone.get(path)
        weight = layer._parameters.get("weight") if channels else None
        if not channels or weight is None or names[id(weight)] > 1 or is_depthwise(layer):
            continue
        if layout(layer, "in") is None or is_under(path, dropped):
            continue
        many, size, each = numbers_of(layer)
        columns = tuple(
            tuple(
                position * each + at
                for position in range(size)
                if group * size + position in channels
                for at in range(each)
            )
            for group in range(many)
        )
        if size * each <= WIDEST and len(channels) < many * size:
            yield _Reader(path, layer, many, size * each, columns)


def _turns(readers: Sequence[_Reader], network_bytes: int) -> Iterator[list[_Reader]]:
    """The readers in as few parts as their sums of products allow."""
    room = max(LEAST_BYTES, network_bytes // 2)
    part: list[_Reader] = []
    for reader in readers:
        if part and sum(other.bytes for other in part) + reader.bytes > room:
            yield part
            part = []
        part.append(reader)
    if part:
        yield part


def _note(reader: _Reader, batches: int, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
    if arguments:
        reader.add(arguments[0], batches)
