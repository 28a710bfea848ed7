"""Where a file's time goes: by kind of operator, as the runtime itself counts it on the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.stage import Progress, Silent
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings

BOUNDARIES = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Operators that only lead from float to int8 or back."""
MOVERS = frozenset({"Transpose", "ReorderInput", "ReorderOutput"})
"""Operators that only change the order of numbers in memory."""
FLOAT_LAYERS = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
INT8_LAYERS = frozenset(
    {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "MatMulNBits", "DynamicQuantizeMatMul"}
)
SHORTEST_SHARE, DEAR_SHARE = 0.03, 0.1
"""Shares of a file's time below which boundaries, layers and moves, and other operators, are not worth a word."""
SMALL_CHANNELS = 16
"""Below so many output channels an int8 layer takes as long as one of that many."""
NARROW_SHARE = 0.25
NAMED = 3
"""Of more operators the names are counted."""
_SILENT = Silent()


def operator_times(
    files: Mapping[str, Path],
    target: TargetSettings,
    *,
    sizes: Mapping[str, Mapping[str, int]] | None = None,
    seconds: float = 0.3,
    progress: Progress = _SILENT,
) -> dict[str, list[dict[str, Any]]]:
    """For each file its kinds of operators, the dearest first: `operator`, `count`, `microseconds` of one call.

    At the target's smallest batch, all files in one process; `sizes` are those of each file's dynamic axes besides the
    batch by its name, where the target's `shapes` do not say others.

    Raises:
        UsageError: A file cannot be loaded, or an axis needs a size.
        StageError: A model fails when it is run.
    """
    jobs = {
        name: {
            "model": str(path),
            "operators": {
                "batch": min(target.batches),
                "axes": {**(sizes or {}).get(name, {}), **target.shapes},
                "seconds": seconds,
                "minimum_calls": 5,
            },
        }
        for name, path in files.items()
    }
    with progress.task("time per operator", len(jobs)) as advance:
        done, _ = run_jobs(target, jobs)
        advance(len(jobs))
    return {name: by_kind(result["operators"]) for name, result in done.items()}


def by_kind(operators: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sums over the operators of one kind, the dearest first."""
    sums: dict[str, list[float]] = {}
    for item in operators:
        sums.setdefault(item["operator"] or "other", []).append(float(item["microseconds"]))
    rows = [
        {"operator": kind, "count": len(times), "microseconds": round(sum(times), 3)} for kind, times in sums.items()
    ]
    return sorted(rows, key=lambda row: -float(str(row["microseconds"])))


def what_costs(
    int8: Sequence[Mapping[str, Any]],
    floating: Sequence[Mapping[str, Any]],
    not_int8: Sequence[Mapping[str, str]] = (),
    channels: Sequence[int] = (),
) -> list[str]:
    """Why an int8 file is not faster than its float one, in sentences, the dearest reason first.

    Args:
        int8: Kinds of operators of the int8 file, as `operator_times` gives them.
        floating: Those of the float file.
        not_int8: Operators that could run in int8 and did not: `name`, `operator`, `reason`.
        channels: Output channels of each layer, as `layer_channels` gives them.
    """
    total = sum(row["microseconds"] for row in int8) or 1.0
    found: list[tuple[float, str]] = []
    for kinds, meaning in (
        (BOUNDARIES, "from float to int8 or back"),
        (FLOAT_LAYERS, "layers in float"),
        (MOVERS, "numbers only moved in memory"),
    ):
        rows = [row for row in int8 if row["operator"] in kinds]
        spent = sum(row["microseconds"] for row in rows)
        if spent / total >= SHORTEST_SHARE:
            named = ", ".join(f"{row['count']} {row['operator']}" for row in rows)
            found.append((spent, f"{meaning} ({named}): {spent / total:.0%} of its time"))
    before = {row["operator"] for row in floating} | BOUNDARIES | MOVERS | FLOAT_LAYERS | INT8_LAYERS
    for row in int8:
        share = row["microseconds"] / total
        if row["operator"] not in before and share >= DEAR_SHARE:
            found.append((row["microseconds"], f"{row['count']} {row['operator']}: {share:.0%} of its time"))
    said = [words for _, words in sorted(found, key=lambda pair: -pair[0])]
    return said + left_in_float(not_int8) + _too_narrow(channels)


def left_in_float(not_int8: Sequence[Mapping[str, str]]) -> list[str]:
    """Operators that did not run in int8, a sentence for each reason, the most common one first."""
    by_reason: dict[str, list[str]] = {}
    for item in not_int8:
        by_reason.setdefault(item["reason"], []).append(f"{item['name']} ({item['operator']})")
    found = []
    for reason, names in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        found.append(f"not in int8: {', '.join(names[:NAMED])}{more}: {reason}")
    return found


def _too_narrow(channels: Sequence[int]) -> list[str]:
    narrow = sum(count < SMALL_CHANNELS for count in channels)
    if not channels or narrow / len(channels) < NARROW_SHARE:
        return []
    are = "has" if narrow == 1 else "have"
    return [f"{narrow} of {len(channels)} layers {are} fewer than {SMALL_CHANNELS} channels, too few for int8 to pay"]


def layer_channels(model: Path) -> list[int]:
    """Output channels of each convolution and linear layer of an ONNX file whose weights are constants."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    for node in graph.node:  # weights in int8 are dequantized, and may be turned, before they are used
        if node.op_type in ("DequantizeLinear", "Transpose") and node.input[0] in shapes:
            shape = shapes[node.input[0]]
            shapes[node.output[0]] = shape[::-1] if node.op_type == "Transpose" and len(shape) == 2 else shape
    found = []
    for node in graph.node:
        shape = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
        if node.op_type == "Conv" and len(shape) > 2:
            found.append(shape[0])
        elif node.op_type in ("Gemm", "MatMul") and len(shape) == 2:
            turned = any(item.name == "transB" and item.i for item in node.attribute)
            found.append(shape[0] if turned else shape[1])
    return found
