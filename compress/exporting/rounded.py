"""Whether a file that was rounded without calibration gives the answers that it should: held against its float twin."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from compress.errors import StageError, UsageError
from compress.exporting import parity
from compress.exporting.emissions import dynamic, weight_only
from compress.exporting.emissions.constant_weights import faster_float
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.graph import attribute
from compress.exporting.right_sums import saturates_here
from compress.exporting.torch_onnx import save
from compress.exporting.twins import twin

Array = NDArray[Any]
MADE_OF_FLOAT = "is made of a float network, and this one is quantized"


def emitted(floating: ModelProto, emission: str) -> ModelProto:
    """A float graph as one of the files that are made of such.

    Raises:
        UsageError: the file would hold hardly an integer.
    """
    if reason := useless(floating, emission):
        raise UsageError(f"export: {emission} {reason}")
    return floating if emission == "fp32" else EMISSIONS[emission](floating)


def useless(floating: ModelProto, emission: str, ignore: Sequence[str] = ()) -> str:
    """Why a file without calibration is not worth making of a float graph, in words; empty where it is.

    `ignore` are globs of layers that stay float.
    """
    if emission == "ort-dynamic" and not dynamic.would_quantize(floating, ignore):
        return (
            "rounds the inputs of linear layers, and it is not these that do this network's work: leave it out of "
            "`emit`, and for convolutions in int8 quantize the network"
        )
    if emission in ("ort-weights8", "ort-weights4") and not weight_only.would_quantize(floating, ignore):
        return (
            f"rounds the weights of linear layers, and this network has none of {weight_only.FEWEST_WEIGHTS} weights "
            "or more: leave it out of `emit`"
        )
    return ""


def check_rounded(
    path: Path,
    floating: ModelProto,
    feeds: Sequence[dict[str, Array]],
    *,
    emission: str,
    reference: Sequence[Array] | None = None,
    again: Sequence[Array] | None = None,
    counted: Sequence[Array] | None = None,
    strict: bool = True,
) -> parity.Parity:
    """Check a file that was made of `floating`, in the steps that it was made in; the parity is that of the last.

    The float graph as it was rearranged must give the `reference` (torch's answers, where there are any), as every
    float file must. With integers of weights alone, its layers computing in float, the file must give its twin's
    answers as float files do; as it will run, it must give those of the twin that rounds what layers read, as int8
    files do. The other arguments are those of `compress.exporting.parity.check`.

    Raises:
        StageError: one of these differs by more than rounding explains.
    """
    file = onnx.load(path)
    base = faster_float(floating)
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / path.name

        def answers(proto: ModelProto, *, optimize: bool = False) -> list[Array]:
            save(proto, beside)
            return parity.run(beside, feeds, optimize=optimize)

        if reference is not None:
            save(base, beside)
            parity.check(beside, feeds, reference, integer=False, again=again, counted=counted)
        in_float = _computing_in_float(file)
        if in_float is not None:
            expected = answers(twin(base, in_float))
            save(in_float, beside)
            parity.check(beside, feeds, expected, integer=False, counted=counted)
        exact = twin(base, file)
        expected, other_order = answers(exact), answers(exact, optimize=True)
    try:
        return parity.check(
            path, feeds, expected, integer=True, again=other_order, counted=counted, strict=strict, emission=emission
        )
    except StageError as error:
        if emission == "ort-dynamic" and saturates_here():
            raise StageError(f"export: {emission} needs VNNI, which this processor has not: {error}") from error
        raise


def _computing_in_float(file: ModelProto) -> ModelProto | None:
    """The file with its products of 4 or 8 bits done in float32; None if there are none."""
    result = ModelProto()
    result.CopyFrom(file)
    products = [node for node in result.graph.node if node.op_type == "MatMulNBits"]
    for node in products:
        if attribute(node, "accuracy_level", 0):
            node.attribute.remove(next(item for item in node.attribute if item.name == "accuracy_level"))
    return result if products else None
