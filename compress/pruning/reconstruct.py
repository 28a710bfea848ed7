"""Channels that stay take over what those that go did, as far as it can be told from them: least squares, no training.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (arXiv:1707.06168), equations 1
and 5: with the inputs that are left, each layer's outputs are reconstructed. Here in closed form, before the cut: of
W x = W_left x_left + W_gone x_gone the second part is predicted from what stays, W_gone x_gone ~ C x_left, so that the
layer becomes (W_left + C) x_left. The strength of the ridge is chosen on examples that C was not fitted to; a layer to
which no C does good there keeps its weights. Outputs that go as well are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from compress.floats import widest
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
"""Places to fit to for each number that stays at one of them: more say little more."""
CHECKS = 512
"""Places to choose the ridge on."""
CHECKED = 4
"""Every so many-th batch is kept for choosing the ridge."""
WIDEST = 8192
"""Layers that keep more numbers at a place are left as they are: their sums of products would fill the memory."""
LEAST_BYTES = 64 * 2**20
"""What is noted may take as much as the network, or this where that is less; then layers go in turns."""


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
    to_fit, to_check = fit_and_check(len(batches))
    for turn in _turns(readers, sum(p.numel() * p.element_size() for p in module.parameters())):
        with evaluating(module), bypassed(module, dropped):
            for number, (inputs, _) in enumerate(batches):
                fits = -(-ROWS // len(to_fit)) if number in to_fit else 0
                checks = -(-CHECKS // len(to_check)) if number in to_check else 0
                turn.look(module, inputs, fits, checks, seed + number)
        turn.solve()
    for reader in readers:  # not before: all are seen in the whole network
        reader.change()
    return {reader.path: reader.error for reader in readers}


def fit_and_check(batches: int) -> tuple[set[int], set[int]]:
    """Numbers of the batches to fit to and of those to check on: of few the last, and one alone serves for both."""
    check = set(range(CHECKED - 1, batches, CHECKED)) or {batches - 1}
    return set(range(batches)) - check or check, check


class _Problem:
    """What one convolution group of a layer made of x_gone, W_gone x_gone, is to be told from x_left.

    Args:
        matrix: W, (outputs, numbers read at a place).
        gone: columns of it that go.
        rows: rows of it that stay.
        constant: whether something that is added may change, too.
    """

    def __init__(self, matrix: Tensor, gone: Sequence[int], rows: Sequence[int], constant: bool) -> None:
        self.matrix, self.gone, self.rows, self.constant = matrix, list(gone), list(rows), constant
        self.left = sorted(set(range(matrix.shape[1])) - set(gone))
        self.weights: Tensor | None = None
        self.sums: tuple[Tensor, Tensor] | None = None
        self.checks: list[tuple[Tensor, Tensor]] = []
        self.solved: Tensor | None = None

    @property
    def bytes(self) -> int:
        """What is noted takes, and what is found."""
        left, rows = len(self.left) + self.constant, len(self.rows)
        return self.matrix.element_size() * ((left + CHECKS) * (left + rows) + left * rows)

    def fit(self, x: Tensor) -> None:
        """Add up products of what is read at some places: (places, numbers)."""
        left, wanted = self._sides(x)
        if self.sums is None:
            rows, width = wanted.shape[1], left.shape[1]
            self.sums = left.new_zeros(width, width), left.new_zeros(rows, width)
        own, cross = self.sums
        own.addmm_(left.T, left)
        cross.addmm_(wanted.T, left)

    def check(self, x: Tensor) -> None:
        """Keep what is read at some places: (places, numbers)."""
        self.checks.append(self._sides(x))

    def solve(self) -> tuple[float, float]:
        """Find by what the weights of x_left change, if anything helps; squared errors without a change and with it."""
        sums, checks = self.sums, self.checks
        self.sums, self.checks, self.weights = None, [], None
        if sums is None or not checks:
            return 0.0, 0.0  # it did not run
        x, y = (torch.cat(parts) for parts in zip(*checks, strict=True))
        own, cross = (part.to(widest(part.device)) for part in sums)
        del sums
        before = least = float(y.square().sum())
        for ridge in RIDGES:
            change = _ridge(own, cross, ridge)
            if change is None:
                continue
            change = change.to(x.dtype)
            error = float(torch.addmm(y, x, change.T, alpha=-1).square().sum())
            if error < least:
                least, self.solved = error, change
        return before, least

    def _sides(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_left, with a 1 at its end if there is a constant, and W_gone x_gone."""
        if self.weights is None:
            self.weights = self.matrix[self.rows][:, self.gone]
        left, wanted = x[:, self.left], x[:, self.gone] @ self.weights.T
        return (torch.cat([left, left.new_ones(len(left), 1)], dim=1) if self.constant else left), wanted


def _ridge(own: Tensor, wanted: Tensor, strength: float) -> Tensor | None:
    """C that is nearest to y ~ C x: (outputs, inputs), from the sums of products x x' and y x'.

    None where the ridge is too weak for the last bits of the sums, which are of 32-bit numbers.
    """
    least = max(strength * own.diagonal().mean().item(), 1e-12)
    shifted = own.clone()
    shifted.diagonal().add_(least)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    del shifted  # such a matrix may be large
    return None if failed else torch.cholesky_solve(wanted.T, factor).T


class _Reader:
    """A layer that reads channels which go, with one problem for each of its convolution groups."""

    def __init__(self, path: str, layer: Any, problems: Sequence[_Problem]) -> None:
        self.path, self.layer, self.problems = path, layer, tuple(problems)
        self.width = max(len(problem.left) for problem in problems)
        self.error = 1.0

    @property
    def bytes(self) -> int:
        """What is noted takes, and what is found."""
        return sum(problem.bytes for problem in self.problems)

    def note(self, x: Tensor, fits: int, checks: int, draw: torch.Generator) -> None:
        """Look at an input: `fits` places for each number that stays, to fit to, and `checks` places to check on."""
        if checks:
            for problem, rows in self._seen(x, checks, draw):
                problem.check(rows)
        if fits:
            for problem, rows in self._seen(x, fits * (self.width + 1), draw):
                problem.fit(rows)

    def solve(self) -> None:
        """Solve all problems and say how well."""
        before, after = (sum(errors) for errors in zip(*(problem.solve() for problem in self.problems), strict=True))
        self.error = after / before if before else 1.0

    def change(self) -> None:
        """Take over what was found."""
        if all(problem.solved is None for problem in self.problems):
            return
        matrix = matrix_of(self.layer)
        change, constant = torch.zeros_like(matrix), matrix.new_zeros(matrix.shape[:2])
        for group, problem in enumerate(self.problems):
            if problem.solved is None:
                continue
            found = problem.solved.to(matrix)
            rows, left = torch.tensor(problem.rows)[:, None], torch.tensor(problem.left)
            change[group][rows, left] = found[:, : len(problem.left)]
            if problem.constant:
                constant[group][problem.rows] = found[:, -1]
        add_to(self.layer, change)
        if has_constant(self.layer):
            self.layer.bias.add_(constant.flatten())

    def _seen(self, x: Tensor, places: int, draw: torch.Generator) -> Iterator[tuple[_Problem, Tensor]]:
        rows = rows_of(self.layer, x, places, draw)
        return zip(self.problems, rows.reshape(len(rows), len(self.problems), -1).unbind(1), strict=True)


class _SeenError(Exception):
    """All layers of a turn have run: the rest of the network need not."""


class _Turn:
    """Layers that are looked at together."""

    def __init__(self, readers: Sequence[_Reader]) -> None:
        self.readers = tuple(readers)
        self.calls: int | None = None

    def look(self, module: nn.Module, inputs: tuple[Tensor, ...], fits: int, checks: int, seed: int) -> None:
        """Let one batch run through the network, as far as there is something to see; numbers as in `_Reader.note`."""
        calls = 0

        def noting(reader: _Reader, draw: torch.Generator) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def note(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
                nonlocal calls
                calls += 1
                if arguments:
                    reader.note(arguments[0], fits, checks, draw)
                if calls == self.calls:
                    raise _SeenError

            return note

        with ExitStack() as stack, suppress(_SeenError):
            for reader in self.readers:
                note = noting(reader, torch.Generator().manual_seed(seed))
                stack.enter_context(reader.layer.register_forward_pre_hook(note))
            module(*inputs)
        self.calls = calls

    def solve(self) -> None:
        """Find how each changes."""
        for reader in self.readers:
            reader.solve()


def _readers(
    module: nn.Module, groups: Sequence[Group], removed: Chosen, dropped: Collection[str]
) -> Iterator[_Reader]:
    """The layers that read what goes, in the order of the network."""
    places = removed_channels(groups, removed)
    names: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)] = names.get(id(parameter), 0) + 1
    for path, layer in module.named_modules():
        gone = places.get((path, "in"))
        weight = layer._parameters.get("weight") if gone else None
        if not gone or weight is None or names[id(weight)] > 1 or is_depthwise(layer):
            continue
        if layout(layer, "in") is None or is_under(path, dropped):
            continue
        matrix, constant = matrix_of(layer), has_constant(layer)
        inputs = _by_group(gone, *numbers_of(layer, "in"))
        outputs = _by_group(places.get((path, "out"), set()), *numbers_of(layer, "out"))
        stay = [sorted(set(range(matrix.shape[1])) - set(numbers)) for numbers in outputs]
        least, most = (f(matrix.shape[2] - len(numbers) for numbers in inputs) for f in (min, max))
        if least > 0 and most <= WIDEST:
            problems = [_Problem(*given, constant) for given in zip(matrix, inputs, stay, strict=True)]
            yield _Reader(path, layer, problems)


def _by_group(channels: Collection[int], many: int, size: int, each: int) -> list[list[int]]:
    """For each of `many` convolution groups of `size` channels the numbers of theirs, `each` of a channel."""
    starts = range(0, many * size, size)
    inside = ([channel - start for channel in sorted(channels) if 0 <= channel - start < size] for start in starts)
    return [[channel * each + at for channel in found for at in range(each)] for found in inside]


def _turns(readers: Sequence[_Reader], network_bytes: int) -> Iterator[_Turn]:
    """The readers in as few parts as what is noted allows."""
    room = max(LEAST_BYTES, network_bytes)
    part: list[_Reader] = []
    for reader in readers:
        if part and sum(other.bytes for other in part) + reader.bytes > room:
            yield _Turn(part)
            part = []
        part.append(reader)
    if part:
        yield _Turn(part)
