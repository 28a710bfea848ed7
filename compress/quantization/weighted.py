"""A convolution or linear layer, with the batch norm behind it, as int8 training sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.quantization.fake_quantize import (
    SMALLEST_SCALE,
    FakeQuantize,
    round_to_multiples,
    weight_scale,
)


class Norm(nn.Module):
    """The batch norm that folds into a layer. Statistics are per channel."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, affine: tuple[Any, Any], statistics: tuple[Tensor, Tensor], momentum: float, eps: float) -> None:
        """`affine` are weight and bias, or None for each; `statistics` running mean and variance."""
        super().__init__()
        self.weight = _parameter(affine[0])
        self.bias = _parameter(affine[1])
        self.register_buffer("running_mean", statistics[0].detach().clone())
        self.register_buffer("running_var", statistics[1].detach().clone())
        self.momentum = momentum
        self.eps = eps

    def factor_and_offset(self) -> tuple[Tensor, Tensor]:
        """(channels,) each: the affine map that the running statistics make of the norm."""
        factor = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            factor = factor * self.weight
        offset = -self.running_mean * factor
        return factor, offset if self.bias is None else offset + self.bias

    def become_identity(self, shift: Tensor | None) -> None:
        """Do nothing but add `shift`, of shape (channels,)."""
        with torch.no_grad():
            self.running_var.fill_(1.0 - self.eps)
            self.running_mean.zero_() if shift is None else self.running_mean.copy_(-shift)
            if self.weight is not None:
                self.weight.fill_(1.0)
            if self.bias is not None:
                self.bias.zero_()


class Weighted(nn.Module):
    """One operator with weights: `function(x, weight, bias, *arguments)`, then the norm.

    Weights are rounded before the norm's factor is applied. With one scale per output channel that is the same as
    rounding the folded weights, so training with batch statistics and the folded int8 layer see the same integers.
    With `frozen`, or in evaluation, the norm's running statistics are folded in: one operator instead of two; and the
    bias is rounded as integer kernels have it, to multiples of (scale of the input * scale of the weights), if `source`
    holds the quantizer of the input. `step` holds a scale for each output channel; where it is 0 the scale follows the
    weights. `axis` is the axis of the weights that holds output channels: 1 in a transposed convolution.
    """

    step: Tensor
    weight: nn.Parameter
    bias: nn.Parameter | None
    norm: Norm | None

    def __init__(
        self,
        function: Callable[..., Tensor],
        weight: Tensor,
        bias: Tensor | None,
        arguments: tuple[Any, ...],
        bits: int | None,
        axis: int = 0,
    ) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = _parameter(bias)
        self.arguments = tuple(_plain(argument) for argument in arguments)
        self.norm = None
        self.bits = bits
        self.axis = axis
        self.enabled = True
        self.frozen = False
        self.source: tuple[FakeQuantize, ...] = ()
        self.register_buffer("step", self._per_channel(torch.zeros(weight.shape[axis])))

    def forward(self, x: Tensor) -> Tensor:
        """As the float operator, with rounded weights."""
        weight = self.rounded()
        if self.norm is not None and self.training and not self.frozen:
            norm = self.norm
            y = self.function(x, weight, self.bias, *self.arguments)
            return functional.batch_norm(
                y, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, norm.momentum, norm.eps
            )
        weight, bias = self._fold(weight)
        return self.function(x, weight, self._rounded_bias(bias), *self.arguments)

    def rounded(self) -> Tensor:
        """The weights on their grid (as they are while disabled, or in an operator that stays float)."""
        if self.bits is None or not self.enabled:
            return self.weight
        return round_to_multiples(self.weight, self.scale())

    def scale(self) -> Tensor:
        """Of the weights before the norm, shape (output channels, 1, ...), or with the channels on `axis`."""
        assert self.bits is not None
        follows = weight_scale(self.weight, self.bits, self.axis)
        return torch.where(self.step > 0, self.step, follows)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weights before rounding, and bias as it is used, with the norm folded in."""
        weight, bias = self._fold(self.weight)
        return weight, self._rounded_bias(bias)

    def integers(self) -> tuple[Tensor, Tensor]:
        """The weights as int8 of the weight's shape, and their scale of shape (output channels,), norm folded in."""
        scale = self.scale()
        steps = self.weight.detach().div(scale).round_()
        if self.norm is not None:
            factor = self.norm.factor_and_offset()[0].detach()
            steps = steps * self._per_channel(factor.sign())
        return steps.to(torch.int8), self._folded_scale()

    def set_folded(self, integers: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Take over integers of the weight's shape with their scale (output channels,) and a bias, norm included.

        The norm becomes the identity; a bias that the layer has no place for must be None.
        """
        with torch.no_grad():
            self.step.copy_(scale.reshape(self.step.shape))
            self.weight.copy_(integers * self.step)
            if self.norm is not None:
                self.norm.become_identity(bias)
                bias = None if self.bias is None else torch.zeros_like(self.bias)
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def set_float(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over float weights and a bias, of a layer without a norm; the scale follows the weights."""
        assert self.norm is None
        with torch.no_grad():
            self.step.zero_()
            self.weight.copy_(weight)
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def unrounded(self) -> tuple[Tensor, Tensor | None]:
        """Weights and bias with the norm folded in, neither rounded."""
        return self._fold(self.weight)

    def _folded_scale(self) -> Tensor:
        """Scale of the weights with the norm folded in, shape (output channels,)."""
        scale = self.scale().flatten()
        if self.norm is not None:
            scale = (scale * self.norm.factor_and_offset()[0].detach().abs()).clamp(min=SMALLEST_SCALE)
        return scale

    def _rounded_bias(self, bias: Tensor | None) -> Tensor | None:
        if bias is None or not self.source or self.bits is None or not self.enabled:
            return bias
        scale = self.source[0].scale * self._folded_scale()
        return round_to_multiples(bias, scale)

    def _fold(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.norm is None:
            return weight, self.bias
        factor, offset = self.norm.factor_and_offset()
        bias = offset if self.bias is None else self.bias * factor + offset
        return weight * self._per_channel(factor), bias

    def _per_channel(self, values: Tensor) -> Tensor:
        """A number for each output channel, shaped to fit the weights."""
        return values.reshape([-1 if i == self.axis else 1 for i in range(self.weight.dim())])


def _plain(argument: Any) -> Any:
    """A traced graph's own kind of list as a list: before the other the compiler gives up."""
    return [_plain(item) for item in argument] if isinstance(argument, list) else argument


def _parameter(tensor: Tensor | None) -> nn.Parameter | None:
    return None if tensor is None else nn.Parameter(tensor.detach().clone())
