"""Mixed precision: how much each operator costs in int8 by itself, and the fewest that must stay in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compress.quantization.template import Template, without
from compress.stage import Progress, Silent

Costs = dict[str, float]
_SILENT = Silent()


def sensitivities(
    template: Template, error_of: Callable[[Template], float], progress: Progress = _SILENT
) -> dict[str, float]:
    """The output error with one layer alone in int8, all others in float, by what the layer writes.

    `error_of` gives the error of the quantized network that a template stands for.
    """
    every = frozenset(operator.output for operator in template.operators)
    found = {}
    with progress.task("how much each layer loses in int8", len(template.layers)) as advance:
        for output in template.layers:
            found[output] = error_of(without(template, every - {output}))
            advance()
    return found


def fewest_in_float(
    order: Sequence[str], is_enough: Callable[[frozenset[str]], bool], trials: int = 12
) -> frozenset[str] | None:
    """The fewest of `order` (most sensitive first) that must stay in float: None if it takes all of them.

    `is_enough` says whether the budget is met with a set of operators in float. It is asked about log2 of their number
    times for how many of the first, then at most `trials` times for single ones to take back, the least sensitive
    first.
    """
    low, high = -1, len(order)  # the first `low` are not enough; all of them are the float network
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(frozenset(order[:middle])):
            high = middle
        else:
            low = middle
    if high == len(order):
        return None
    kept = list(order[:high])
    for output in list(reversed(kept[:-1]))[:trials]:
        smaller = [name for name in kept if name != output]
        if is_enough(frozenset(smaller)):
            kept = smaller
    return frozenset(kept)
