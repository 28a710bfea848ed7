"""Rounding to int8 in training: forward the numbers that the integer kernels see, backward a straight line.

torch's own fused kernels do the same arithmetic several times slower on a CPU: they are not vectorised.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

QUANTIZED_MIN, QUANTIZED_MAX = -128, 127
SMALLEST_SCALE = 2.0**-40
MOMENTUM = 0.05


class _RoundToGrid(torch.autograd.Function):
    """x -> round(clamp(x / scale)) * scale; the gradient passes inside of the range (straight-through, Bengio 2013)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero_point: int) -> Tensor:
        low, high = QUANTIZED_MIN - zero_point, QUANTIZED_MAX - zero_point
        ctx.save_for_backward(x)
        ctx.bounds = ((low - 0.5) * scale, (high + 0.5) * scale)
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return wide.div(scale).clamp_(low, high).round_().mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.bounds), None, None


class _RoundToLearnedGrid(torch.autograd.Function):
    """As `_RoundToGrid`, and the scale learns: Esser et al. 2020, "Learned Step Size Quantization", equations 2 and 3.

    The scale's gradient is round(x / s) - x / s inside of the range and the bound outside, times 1 / sqrt(N Q) with N
    the number of values of an example and Q the greatest step (section 2.2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: int) -> Tensor:
        low, high = QUANTIZED_MIN - zero_point, QUANTIZED_MAX - zero_point
        ctx.save_for_backward(x, scale)
        ctx.limits = (low, high)
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return wide.div(scale).clamp_(low, high).round_().mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale = ctx.saved_tensors
        low, high = ctx.limits
        step = float(scale)
        passed = torch.ops.aten.hardtanh_backward(gradient, x, (low - 0.5) * step, (high + 0.5) * step)
        steps = x.float().div(step)
        rounded = steps.clamp(low, high).round_()
        # outside of the range `passed` is 0, and the bound remains
        slope = torch.dot(gradient.flatten().float(), rounded.flatten()) - torch.dot(
            passed.flatten().float(), steps.flatten()
        )
        factor = 1 / math.sqrt(max(x.numel() / len(x), 1) * max(-low, high))
        return passed, (slope * factor).reshape(scale.shape), None


class RoundToMultiples(torch.autograd.Function):
    """x -> round(x / scale) * scale for what lies inside of the range anyway, so that the gradient is the identity."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        """Rounded; `scale` has a shape that fits `weight`."""
        return weight.div(scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """As if nothing had been rounded."""
        return gradient, None


def round_to_multiples(weight: Tensor, scale: Tensor) -> Tensor:
    """`RoundToMultiples`, in operators that a compiler fuses where one is at work."""
    if torch.compiler.is_compiling():
        return weight + (torch.round(weight / scale) * scale - weight).detach()
    rounded: Tensor = RoundToMultiples.apply(weight, scale)  # type: ignore[no-untyped-call]
    return rounded


def _rounded_by_parts(x: Tensor, scale: Tensor, zero_point: Tensor, *, learning: bool) -> Tensor:
    """Both functions above, in operators whose derivatives are theirs: for a compiler, which fuses them."""
    low, high = QUANTIZED_MIN - zero_point.float(), QUANTIZED_MAX - zero_point.float()
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    if not learning:
        passed = torch.minimum(torch.maximum(wide, (low - 0.5) * scale), (high + 0.5) * scale)
        rounded = torch.minimum(torch.maximum(torch.round(passed / scale), low), high) * scale
        return passed + (rounded - passed).detach()
    greatest = torch.maximum(-low, high)
    factor = torch.rsqrt(greatest * (x.numel() / len(x)))
    slowed = scale * factor + (scale - scale * factor).detach()
    steps = torch.minimum(torch.maximum(wide / slowed, low - 0.5), high + 0.5)
    rounded = torch.minimum(torch.maximum(torch.round(steps), low), high)
    return (steps + (rounded - steps).detach()) * slowed


def weight_scale(weight: Tensor, bits: int = 8, axis: int = 0) -> Tensor:
    """Scale per output channel, 1 on all axes but `axis`: the greatest absolute weight falls on the last step."""
    others = tuple(i for i in range(weight.dim()) if i != axis)
    greatest = weight.detach().abs().amax(dim=others, keepdim=True)
    return greatest.div_(2 ** (bits - 1) - 1).clamp_(min=SMALLEST_SCALE)


def fake_quantize_weight(weight: Tensor, bits: int = 8) -> Tensor:
    """`weight` (output channels first) on its symmetric grid of `bits` bits, one scale per output channel."""
    return round_to_multiples(weight, weight_scale(weight, bits))


class FakeQuantize(nn.Module):
    """An activation on the int8 grid, with one scale and zero point for the tensor.

    `low` and `high` are the mean least and greatest value of a batch; `low_share` and `high_share` say how much of them
    (or beyond them) calibration chose to represent. `bounds` is what a folded relu or clip leaves. State is in buffers,
    so that it is saved, loaded and checkpointed with the weights; `scale` is a parameter, which learns where `learning`
    says so.
    """

    scale: nn.Parameter
    zero_point: Tensor
    low: Tensor
    high: Tensor
    low_share: Tensor
    high_share: Tensor

    def __init__(self, bounds: tuple[float, float] | None = None, symmetric: bool = False) -> None:
        super().__init__()
        self.bounds = bounds
        self.symmetric = symmetric
        self.enabled = True
        self.observing = False
        self.learning = False
        self.values: Any = None
        self.scale = nn.Parameter(torch.tensor(1.0, dtype=torch.float32))
        for name, value in {"low": 0.0, "high": 0.0, "low_share": 1.0, "high_share": 1.0}.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; values on the grid. While observing in training, `low` and `high` follow it."""
        if self.values is not None:
            self.values(x.detach())
        if self.observing and self.training:
            low, high = torch.aminmax(x.detach())
            self.low.lerp_(low.float(), MOMENTUM)
            self.high.lerp_(high.float(), MOMENTUM)
        if not self.enabled:
            return x
        if torch.compiler.is_compiling():
            learning = self.learning and self.training
            return _rounded_by_parts(
                x, self.scale if learning else self.scale.detach(), self.zero_point, learning=learning
            )
        if self.learning and self.training:
            learned: Tensor = _RoundToLearnedGrid.apply(  # type: ignore[no-untyped-call]
                x, self.scale, int(self.zero_point.item())
            )
            return learned
        rounded: Tensor = _RoundToGrid.apply(  # type: ignore[no-untyped-call]
            x, self.scale.item(), int(self.zero_point.item())
        )
        return rounded

    def set_range(self, low: float, high: float, low_share: float = 1.0, high_share: float = 1.0) -> None:
        """Take over the range of a tensor and the share of it to represent."""
        self.low.fill_(low)
        self.high.fill_(high)
        self.low_share.fill_(low_share)
        self.high_share.fill_(high_share)
        self.update_scale()

    def set_grid(self, scale: float, zero_point: int) -> None:
        """Take over a grid; the range becomes what it represents: of a symmetric one as much on either side."""
        with torch.no_grad():
            self.low.fill_((-QUANTIZED_MAX if self.symmetric else QUANTIZED_MIN - zero_point) * scale)
            self.high.fill_((QUANTIZED_MAX - zero_point) * scale)
            self.low_share.fill_(1.0)
            self.high_share.fill_(1.0)
            self.scale.fill_(scale)
            self.zero_point.fill_(zero_point)

    def keep_foldable(self) -> None:
        """After a learning step: the scale is positive, and behind a clip no value lies outside of it."""
        largest = math.inf
        if self.bounds is not None and not self.symmetric:
            largest = _float32_below((self.bounds[1] - self.bounds[0]) / (QUANTIZED_MAX - QUANTIZED_MIN))
        with torch.no_grad():
            self.scale.clamp_(SMALLEST_SCALE, largest)

    def update_scale(self) -> None:
        """Scale and zero point from the range: see `grid`."""
        low, high = self.low.item() * self.low_share.item(), self.high.item() * self.high_share.item()
        scale, zero_point = grid(low, high, self.bounds, self.symmetric)
        with torch.no_grad():
            self.scale.fill_(scale)
            self.zero_point.fill_(zero_point)


def grid(low: float, high: float, bounds: tuple[float, float] | None, symmetric: bool) -> tuple[float, int]:
    """Scale and zero point of signed 8 bits for values from `low` to `high`, which always include 0.

    Behind a relu the zero point is the least value, so that the runtime can fold the relu away; behind a clip no
    value lies outside of it, for the same reason. A range of nothing but zeros gets scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    if symmetric:
        greatest = max(-low, high)
        return (max(greatest / QUANTIZED_MAX, SMALLEST_SCALE), 0) if greatest > 0 else (1.0, 0)
    if high <= low:
        return 1.0, QUANTIZED_MIN if low == 0 else 0
    steps = QUANTIZED_MAX - QUANTIZED_MIN
    scale = _float32_below((high - low) / steps) if bounds is not None else (high - low) / steps
    scale = max(scale, SMALLEST_SCALE)
    zero_point = max(QUANTIZED_MIN, min(QUANTIZED_MAX, QUANTIZED_MIN - round(low / scale)))
    return scale, zero_point


def _float32_below(value: float) -> float:
    """The greatest float32 for which 255 steps do not exceed 255 times `value` after rounding."""
    if math.isinf(value):
        return value
    below = torch.tensor(value, dtype=torch.float32)
    while float(below) > value or float(below * 255) > value * 255:
        below = torch.nextafter(below, torch.tensor(-math.inf))
    return float(below)
