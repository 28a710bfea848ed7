"""Whether a file gives the torch model's answers on real examples."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import StageError
from compress.exporting.right_sums import FOR_OTHERS, OPTION, saturates_here, unsigned

Array = NDArray[Any]
STEPS = 255
SLACK = 1.001
MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose"})
FLOAT_TOLERANCE = 1e-3
NARROW_TOLERANCE = {"fp16": 8 * 2.0**-11, "bf16": 8 * 2.0**-8}
"""Of the range, as FLOAT_TOLERANCE: eight roundings. Rounding errors of n layers add up to the root of n of them."""
SHARE_WITHIN = 0.99
NOISE_SLACK = 0.01
FLOAT16_NOISE_SLACK = 0.05
"""Of int8 files in surroundings of float16: that noise is larger, and drawn twice."""
AGREEMENT = 0.995


@dataclass(frozen=True)
class Parity:
    """How far a file's answers lie from torch's.

    `step` is the range of the reference's outputs over 255 or, if that is more, the scale that the file rounds its
    output to (int8), or a part of the range (float: a
    thousandth in float32); `within_step` the share of values at most one step off
    without the runtime's optimizations; `largest_steps` the worst of all;
    `agreement` the share of examples that optimizations do not move to another class (or of values, by a step).
    `torch_within_step` is what `within_step` is between torch and torch adding in another order: in a deep int8 network
    the last bit of a sum decides a rounding, that one some of the next layer's, and no file can be closer than that.
    """

    examples: int
    step: float
    within_step: float
    largest_steps: float
    agreement: float
    torch_within_step: float = 1.0

    def as_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)

    def _chance(self) -> float:
        """How far two shares of so many values lie apart by chance: three standard deviations of their difference.

        The values of one example are not independent, so that examples are counted.
        """
        share = min(max(self.torch_within_step, 1 / self.examples), 1 - 1 / self.examples) if self.examples > 1 else 0.5
        return 3 * math.sqrt(2 * share * (1 - share) / max(self.examples, 1)) if self.torch_within_step < 1 else 0.0

    def faults(self, *, integer: bool, noise_slack: float = NOISE_SLACK) -> list[str]:
        """What is wrong, in words."""
        found = []
        least = min(SHARE_WITHIN, self.torch_within_step - max(noise_slack, self._chance()))
        if self.within_step < least or (not integer and self.largest_steps > 1):
            found.append(
                f"{1 - self.within_step:.1%} of the outputs differ from torch's by more than {self.step:.3g} "
                f"(at most {1 - least:.0%} may; worst: {self.largest_steps:.1f} times that)"
            )
        allowed = max(1 - AGREEMENT, 1 / max(self.examples, 1))
        if 1 - self.agreement > allowed + 1e-9:
            found.append(
                f"with the runtime's optimizations {1 - self.agreement:.1%} of the answers change "
                f"(at most {allowed:.1%} may): x86 processors without VNNI sum weights of 8 bits wrongly, and "
                "`ort-x86-avx2` has 7"
            )
        return found


def check(
    model: Path,
    feeds: Sequence[dict[str, Array]],
    reference: Sequence[Array],
    *,
    integer: bool,
    again: Sequence[Array] | None = None,
    counted: Sequence[Array] | None = None,
    strict: bool = True,
    emission: str = "",
    narrow: bool = False,
    network: Any = None,
) -> Parity:
    """Run the file on `feeds` (batches) and compare its first output with `reference` (one array per batch).

    `again` is the reference computed by torch in another order, where there is one. `counted` says of outputs for
    tokens, (examples, tokens) for each batch, which are no padding; each such token is then an example of its own.
    `emission` says in which precision a float file computes, `narrow` that an int8 one has float16 around it. A file of
    bfloat16 is run as `widened` has it, one for processors that sum in 32 bits as they would (`right_sums`).

    Not `strict`, an int8 network is compared but not judged: before it is trained, its outputs hardly differ from
    each other, so that one step inside is many of theirs.

    Raises:
        StageError: The answers differ by more than rounding explains; of a `network` in torch that was prepared for
            int8 it names the first operator that differs, with both values.
    """
    with runnable(model, emission) as file:
        outputs = [run(file, feeds, optimize=on, right_sums=emission in FOR_OTHERS) for on in (False, True)]
    plain, optimized, expected = (_rows(found, counted) for found in (*outputs, reference))
    rounding = output_scale(model) if integer else 0.0
    tolerance = NARROW_TOLERANCE.get(emission, FLOAT_TOLERANCE)
    parity = compare(plain, optimized, expected, integer=integer, output_scale=rounding, tolerance=tolerance)
    if again is not None:
        parity = replace(parity, torch_within_step=_share_within(_rows(again, counted), expected, parity.step))
    slack = FLOAT16_NOISE_SLACK if narrow else NOISE_SLACK
    faults = parity.faults(integer=integer, noise_slack=slack) if strict or not integer else []
    if faults:
        why = _why(model, emission, network, feeds, [*outputs, reference])
        raise StageError(f"export: {model.name} does not give the torch model's answers: {'; '.join(faults)}. {why}")
    return parity


def compare(
    plain: Array,
    optimized: Array,
    expected: Array,
    *,
    integer: bool,
    output_scale: float = 0.0,
    tolerance: float = FLOAT_TOLERANCE,
) -> Parity:
    """Parity of outputs (examples, ...), without and with the runtime's optimizations, with torch's.

    `tolerance` is what a float file may be off, as a part of the reference's range.
    """
    if plain.shape != expected.shape:
        raise StageError(f"export: the file's output has shape {plain.shape}, torch's {expected.shape}")
    extent = float(np.ptp(expected)) or float(np.abs(expected).max()) or 1.0
    step = max(extent / STEPS, output_scale * SLACK) if integer else extent * tolerance
    steps = np.abs(plain.astype(np.float64) - expected) / step
    steps = np.where(np.isfinite(steps), steps, np.inf)
    return Parity(
        examples=len(expected),
        step=step,
        within_step=float(np.mean(steps <= 1)),
        largest_steps=float(steps.max()),
        agreement=agreement(optimized, plain, step),
    )


@contextlib.contextmanager
def runnable(model: Path, emission: str) -> Iterator[Path]:
    """The file that ONNX Runtime's CPU provider is to run in place of `model`: itself unless that runs wrong here."""
    if emission != "bf16" and not (emission in FOR_OTHERS and saturates_here()):
        yield model
        return
    import onnx

    from compress.exporting.torch_onnx import save
    from compress.exporting.widen import widened

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / model.name
        save((widened if emission == "bf16" else unsigned)(onnx.load(model)), path)
        yield path


def _rows(outputs: Sequence[Array], counted: Sequence[Array] | None) -> Array:
    """The outputs of all batches, one row an example, or one a token that counts."""
    if counted is None:
        return np.concatenate(list(outputs))
    return np.concatenate([output[kept] for output, kept in zip(outputs, counted, strict=True)])


def _why(
    model: Path, emission: str, network: Any, feeds: Sequence[dict[str, Array]], outputs: Sequence[Sequence[Array]]
) -> str:
    """What `compress.exporting.divergence_torch.located` says; a search that fails must not hide what it was for."""
    from compress.exporting.divergence_torch import located

    try:
        with runnable(model, emission) as file:
            return located(file, network, feeds, outputs)
    except Exception as error:
        return f"Which operator it is could not be found out: {str(error).strip().splitlines()[0]}"


def _share_within(found: Array, expected: Array, step: float) -> float:
    return float(np.mean(np.abs(found - expected) <= step))


def output_scale(model: Path) -> float:
    """The scale to which a file rounds its first output, 0 if it does not."""
    import onnx

    from compress.exporting.graph import Graph

    graph = Graph(onnx.load(model).graph)
    node = graph.writers().get(graph.outputs[0])
    while node is not None and node.op_type in MOVES:
        node = graph.writers().get(node.input[0])
    return float(graph.arrays[node.input[1]]) if node is not None and node.op_type == "DequantizeLinear" else 0.0


def agreement(outputs: Array, reference: Array, step: float) -> float:
    """Share of examples with the same class, ties within two steps counted as the same; or of values within a step."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return float(np.mean(np.abs(outputs - reference) <= step))
    chosen = np.take_along_axis(reference, outputs.argmax(1)[:, None], 1)[:, 0]
    return float(np.mean(reference.max(1) - chosen <= 2 * step))


def run(model: Path, feeds: Sequence[dict[str, Array]], *, optimize: bool, right_sums: bool = False) -> list[Array]:
    """A file's first output for each batch, by ONNX Runtime's CPU provider on one thread.

    With `right_sums` its kernels add in 32 bits, also where they otherwise saturate.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if right_sums:
        options.add_session_config_entry(OPTION, "1")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return [np.asarray(session.run(None, feed)[0]) for feed in feeds]
