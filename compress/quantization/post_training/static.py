"""Activation grids from what the float graph's tensors hold on samples."""

from __future__ import annotations

from dataclasses import dataclass

from compress.quantization.fake_quantize import grid
from compress.quantization.observe import Batches, extremes, histograms
from compress.quantization.observers import Extremes, Histogram
from compress.quantization.ranges import CHOICES
from compress.quantization.template import GridPoint, Template


@dataclass(frozen=True)
class Seen:
    """What the tensors of a template's points hold: extremes and histogram of each."""

    extremes: dict[str, Extremes]
    histograms: dict[str, Histogram]


def observe(template: Template, batches: Batches, threads: int = 1) -> Seen:
    """Run the float graph twice over the samples.

    Raises:
        StageError: A tensor is not finite on them, or there are none.
    """
    tensors = [point.tensor for point in template.points]
    found = extremes(template.proto, tensors, batches, threads)
    edges = {name: seen.range for name, seen in found.items()}
    return Seen(found, histograms(template.proto, edges, batches, threads))


def grids(template: Template, seen: Seen, method: str, *, symmetric: bool = False) -> dict[str, GridPoint]:
    """Scale and zero point of each group by a method of `ranges.CHOICES`; tensors of a group share the widest range."""
    result = {}
    for group, points in template.groups.items():
        lows, highs = [], []
        for point in points:
            low, high = seen.extremes[point.tensor].range
            histogram = seen.histograms[point.tensor]
            shares = CHOICES[method](histogram.counts, low, max(high, histogram.high), point.bounds, symmetric)
            lows.append(low * shares[0])
            highs.append(high * shares[1])
        result[group] = grid(min(lows), max(highs), points[0].bounds, symmetric)
    return result
