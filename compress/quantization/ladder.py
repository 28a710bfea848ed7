"""The ladder: methods without training, from cheap to dear, and no further up than the budget asks.

Each rung starts from what the one below it kept. Choices within a rung (which range, which strength) are made by the
output error on the calibration samples; whether a rung is enough is judged by the caller, on validation data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnx import ModelProto

from compress.quantization.observe import Batches
from compress.quantization.outputs import OutputError
from compress.quantization.post_training import bias_correction, equalization, smooth_quant
from compress.quantization.post_training.sensitivity import fewest_in_float, sensitivities
from compress.quantization.post_training.static import Seen, grids, observe
from compress.quantization.post_training.weights import quantize_weights
from compress.quantization.ranges import CHOICES
from compress.quantization.stage import RUNGS
from compress.quantization.template import GridPoint, QuantizedWeight, Template, insert, without
from compress.stage import Progress, Silent

MEANING = {
    "static": "ranges from samples",
    "corrected": "equalized layers and corrected biases",
    "smoothed": "outliers moved into weights (SmoothQuant)",
    "adaround": "learned rounding (AdaRound)",
    "trained": "trained as it will run, from these scales",
    "mixed": "the most sensitive operators in float",
}
_SILENT = Silent()


@dataclass(frozen=True)
class Quantization:
    """A quantized network: the float graph that it rounds, its grids and its integers.

    `in_float` names the layers that could run in int8 and are kept from it.
    """

    template: Template
    grid: Mapping[str, GridPoint]
    weights: Mapping[str, QuantizedWeight]
    in_float: tuple[str, ...] = ()

    @property
    def canonical(self) -> ModelProto:
        """Its canonical graph."""
        return insert(self.template, self.grid, self.weights)


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder, what was chosen on it, and what came of it.

    `error` is how far its outputs are off on the calibration samples, `loss` what it loses by the judge.
    """

    name: str
    choice: str
    error: float
    loss: float
    seconds: float
    result: Quantization = field(repr=False)

    def row(self) -> dict[str, Any]:
        """Plain data, for a record."""
        return {
            "rung": self.name,
            "meaning": MEANING.get(self.name, self.name),
            "choice": self.choice,
            "error": self.error,
            "loss": self.loss,
            "seconds": self.seconds,
            "in_float": list(self.result.in_float),
        }


@dataclass(frozen=True)
class Options:
    """What may be tried; `method` is one of `ranges.CHOICES` or `auto`; `rungs` those that may be climbed."""

    symmetric: bool = False
    weight_bits: int = 8
    method: str = "auto"
    rungs: tuple[str, ...] = RUNGS
    adaround_iterations: int = 500
    threads: int = 1
    seed: int = 0


Train = Callable[[Sequence[Rung]], tuple[str, Quantization] | None]
"""Trains the network from one of the rungs below: what was done, and what came of it."""


class Ladder:
    """Climbs a template's rungs one at a time; what they share, such as what the tensors hold, is computed once."""

    def __init__(
        self,
        template: Template,
        batches: Batches,
        error: OutputError,
        options: Options | None = None,
        progress: Progress = _SILENT,
        train: Train | None = None,
    ) -> None:
        self.template, self.batches, self.error, self.train = template, batches, error, train
        self.options = options or Options()
        self.progress = progress
        self._seen: dict[int, tuple[Template, Seen]] = {}

    def climb(self, loss: Callable[[Quantization], float], budget: float | None) -> list[Rung]:
        """The rungs that were climbed, lowest first: up to the first whose `loss` is within the budget.

        Without a budget only the first is. A rung that does not apply is left out.
        """
        found: list[Rung] = []
        for name in self.options.rungs:
            began = time.monotonic()
            made = self._make(name, found, loss, budget)
            if made is None:
                continue
            choice, result = made
            rung = Rung(name, choice, self.error(result.canonical), loss(result), 0.0, result)
            found.append(replace(rung, seconds=time.monotonic() - began))
            self.progress.say(f"int8, {MEANING[name]} ({choice}): loss {rung.loss:.4g}")
            if budget is None or rung.loss <= budget:
                break
        return found

    def _make(
        self, name: str, found: Sequence[Rung], loss: Callable[[Quantization], float], budget: float | None
    ) -> tuple[str, Quantization] | None:
        if name == "static":
            return self.static(self.template)
        if name == "trained":
            return None if self.train is None else self.train(found)
        below = min(found, key=lambda rung: rung.loss).result
        if name == "mixed":
            return None if budget is None else self._mixed(below, loss, budget)
        rungs = {"corrected": self._corrected, "smoothed": self._smoothed, "adaround": self._adaround}
        return rungs[name](below)

    def static(self, template: Template) -> tuple[str, Quantization]:
        """The ranges, and the weights' scales, that leave the least output error."""
        options = self.options
        seen = self._look(template)
        methods = list(CHOICES) if options.method == "auto" else [options.method]
        weights = quantize_weights(template, options.weight_bits)
        tried = {
            name: Quantization(template, grids(template, seen, name, symmetric=options.symmetric), weights)
            for name in methods
        }
        name, best = self._least(tried)
        if options.method != "auto":
            return name, best
        tight = quantize_weights(template, options.weight_bits, least_error=True)
        _, chosen = self._least({"greatest weight": best, "least error": replace(best, weights=tight)})
        return f"{name}{', weights by least error' if chosen is not best else ''}", chosen

    def _corrected(self, below: Quantization) -> tuple[str, Quantization] | None:
        """Equalized if that helps, then with corrected biases if that helps."""
        best, said = below, []
        if equalization.pairs(below.template):
            _, equalized = self.static(equalization.equalize(below.template))
            if self._least({"": best, "equalized": equalized})[0]:
                best, said = equalized, ["equalized"]
        options = self.options
        corrected = replace(
            best,
            template=bias_correction.correct_biases(best.template, best.weights, self.batches, options.threads),
        )
        if self._least({"": best, "corrected": corrected})[0]:
            best, said = corrected, [*said, "biases corrected"]
        return (" and ".join(said), best) if said else None

    def _smoothed(self, below: Quantization) -> tuple[str, Quantization] | None:
        """With the strength, of four, that leaves the least error, if that is less than without."""
        template = below.template
        if not smooth_quant.places(template):
            return None
        maxima = smooth_quant.channel_maxima(template, self.batches, self.options.threads)
        tried = {"": below}
        for alpha in smooth_quant.ALPHAS:
            tried[f"strength {alpha}"] = self.static(smooth_quant.smooth(template, maxima, alpha))[1]
        name, best = self._least(tried)
        return (name, best) if name else None

    def _adaround(self, below: Quantization) -> tuple[str, Quantization] | None:
        from compress.quantization.post_training.adaround import adaround

        options = self.options
        rounded = adaround(
            below.template,
            below.grid,
            below.weights,
            self.batches,
            iterations=options.adaround_iterations,
            bits=options.weight_bits,
            threads=options.threads,
            seed=options.seed,
            progress=self.progress,
        )
        better = replace(below, weights=rounded)
        return ("layer by layer", better) if self._least({"": below, "rounded": better})[0] else None

    def _mixed(
        self, below: Quantization, loss: Callable[[Quantization], float], budget: float
    ) -> tuple[str, Quantization] | None:
        """The fewest layers in float with which the budget is met, the most sensitive first."""
        costs = sensitivities(
            below.template, lambda template: self.error(self._restricted(below, template).canonical), self.progress
        )
        order: dict[str, list[str]] = {}
        for output in sorted(costs, key=costs.__getitem__, reverse=True):
            order.setdefault(_module(below.template, output), []).append(output)

        def kept_from(names: Collection[str]) -> Quantization:
            outputs = frozenset(output for name in names for output in order[name])
            restricted = self._restricted(below, without(below.template, outputs))
            return replace(restricted, in_float=tuple(name for name in order if name in names))

        chosen = fewest_in_float(list(order), lambda names: loss(kept_from(names)) <= budget)
        if not chosen:
            return None
        found = kept_from(chosen)
        said = ", ".join(found.in_float[:4]) + (f" and {len(chosen) - 4} more" if len(chosen) > 4 else "")
        return f"in float: {said}", found

    def _restricted(self, below: Quantization, template: Template) -> Quantization:
        """The same quantization at fewer places."""
        groups = template.groups
        grid = {group: below.grid[group] for group in groups if group in below.grid}
        if groups.keys() - grid.keys():
            method = self.options.method if self.options.method != "auto" else "minmax"
            grid |= {
                group: point
                for group, point in grids(
                    template, self._look(template), method, symmetric=self.options.symmetric
                ).items()
                if group not in grid
            }
        return Quantization(template, grid, {output: below.weights[output] for output in template.layers})

    def _least(self, tried: Mapping[str, Quantization]) -> tuple[str, Quantization]:
        if len(tried) == 1:
            return next(iter(tried.items()))
        errors = {name: self.error(result.canonical) for name, result in tried.items()}
        name = min(errors, key=errors.__getitem__)
        return name, tried[name]

    def _look(self, template: Template) -> Seen:
        """What a template's tensors hold, kept for the graph's lifetime."""
        known = self._seen.get(id(template.proto))
        if known is not None and {p.tensor for p in template.points} <= known[1].extremes.keys():
            return known[1]
        seen = observe(template, self.batches, self.options.threads)
        if len(self._seen) > 1:
            self._seen.clear()
        self._seen[id(template.proto)] = (template, seen)
        return seen


def _module(template: Template, output: str) -> str:
    """The name of the module that a layer is a call of; a module that is called more than once has one."""
    name = template.layers[output].name
    while name.endswith("_again"):
        name = name.removesuffix("_again")
    return name
