"""Activation ranges from examples: what the float network's tensors hold, and how much of it to represent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import StageError
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.observers import Extremes, Histogram, spacing
from compress.quantization.ranges import CHOICES
from compress.quantization.weighted import Weighted


def squared_error(quantized: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference of outputs."""
    return (quantized - reference).square().mean()


def calibrate(
    model: nn.Module,
    batches: Callable[[], Iterable[tuple[Tensor, ...]]],
    method: str = "auto",
    error: Callable[[Tensor, Tensor], Tensor] = squared_error,
) -> None:
    """Set every range of a prepared model from the float answers to `batches()`, which gives the same each time.

    `method` is `minmax`, `mse`, `percentile`, or `auto`: that of the three for which `error(quantized outputs, float
    outputs)`, summed over the batches, is least. Leaves the model in evaluation mode, quantizing.

    Raises:
        StageError: A tensor holds values that are not finite, or there was no batch.
    """
    named = [(name, module) for name, module in model.named_modules() if isinstance(module, FakeQuantize)]
    quantizers = [module for _, module in named]
    set_quantizing(model, False)
    model.eval()
    try:
        extremes = [Extremes() for _ in quantizers]
        _watch(model, quantizers, list(map(_noting, extremes)), batches())
        for (name, _), found in zip(named, extremes, strict=True):
            if not found.is_finite:
                raise StageError(f"calibration: {name.rpartition('.')[2]} is not finite on the training examples")
        histograms = [Histogram(*found.range) for found in extremes]
        _watch(model, quantizers, list(map(_counting, histograms)), batches())
    finally:
        for quantizer in quantizers:
            quantizer.values = None
        set_quantizing(model, True)

    def choose(name: str) -> None:
        for quantizer, found, seen in zip(quantizers, extremes, histograms, strict=True):
            _choose(quantizer, found, seen, name)

    if method != "auto":
        choose(method)
        return
    errors = {}
    for name in CHOICES:
        choose(name)
        errors[name] = sum(float(error(*_both(model, inputs))) for inputs in batches())
    choose(min(errors, key=errors.__getitem__))


def _both(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Quantized and float outputs of one batch: of language models those of all batches would fill the memory."""
    with torch.no_grad():
        quantized = model(*inputs)
        set_quantizing(model, False)
        reference = model(*inputs)
    set_quantizing(model, True)
    return quantized, reference


def set_quantizing(model: nn.Module, enabled: bool) -> None:
    """Round activations and weights, or pass them through as floats."""
    for module in model.modules():
        if isinstance(module, FakeQuantize | Weighted):
            module.enabled = enabled


def _noting(extremes: Extremes) -> Callable[[Tensor], None]:
    """Extremes are found where the tensor is: only two numbers leave the device."""

    def see(values: Tensor) -> None:
        low, high = torch.aminmax(values)
        extremes.add(low.item(), high.item())

    return see


def _counting(histogram: Histogram) -> Callable[[Tensor], None]:
    """Only the values that are counted leave the device."""

    def see(values: Tensor) -> None:
        flat = values.detach().reshape(-1)
        histogram(flat[:: spacing(flat.numel())].float().cpu().numpy())

    return see


def _choose(quantizer: FakeQuantize, found: Extremes, seen: Histogram, method: str) -> None:
    """Set a quantizer's range: the mean extremes of a batch, and the share of them that stands for the choice."""
    low, high = found.range
    shares = CHOICES[method](seen.counts, seen.low, seen.high, quantizer.bounds, quantizer.symmetric)
    mean_low, mean_high = min(float(np.mean(found.lows)), 0.0), max(float(np.mean(found.highs)), 0.0)
    quantizer.set_range(
        mean_low,
        mean_high,
        low * shares[0] / mean_low if mean_low else 1.0,
        high * shares[1] / mean_high if mean_high else 1.0,
    )


def _watch(
    model: nn.Module,
    quantizers: Sequence[FakeQuantize],
    watchers: Sequence[Callable[[Tensor], None]],
    batches: Iterable[tuple[Tensor, ...]],
) -> None:
    for quantizer, watcher in zip(quantizers, watchers, strict=True):
        quantizer.values = watcher
    with torch.no_grad():
        for inputs in batches:
            model(*inputs)
