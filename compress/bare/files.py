"""The files that are made of a canonical graph, each proven before anybody sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from compress.bare.judge import Judge, Judgement
from compress.errors import StageError
from compress.exporting import parity
from compress.exporting.divergence import explain
from compress.exporting.element_types import at_least, computes_in_float16
from compress.exporting.emissions import dynamic, tensorrt
from compress.exporting.emissions.narrow import narrow
from compress.exporting.emissions.table import EMISSIONS
from compress.exporting.emissions.weight_only import weight_only
from compress.exporting.graph import Graph
from compress.exporting.int8_share import Int8Share, int8_share
from compress.exporting.lint.check import lint, refuse
from compress.exporting.right_sums import saturates_here
from compress.exporting.rounded import check_rounded
from compress.exporting.torch_onnx import save
from compress.targets.emissions import INTEGER_PRECISIONS, UNCALIBRATED_EMISSIONS, precision_of

GIVEN, FLOAT = "given", "fp32"
PARITY_BATCHES = 4
DYNAMIC = "ort-dynamic"
HERE = ("ort-x86", "ort-x86-avx2", "ort-arm", *UNCALIBRATED_EMISSIONS)
"""Emissions for ONNX Runtime's CPU provider."""
MAKE: Mapping[str, Callable[[ModelProto, Sequence[str]], ModelProto]] = {
    DYNAMIC: dynamic.dynamic,
    "ort-weights8": lambda proto, ignore: weight_only(proto, 8, ignore),
    "ort-weights4": lambda proto, ignore: weight_only(proto, 4, ignore),
}
"""Emissions that need no calibration -> how they are made of a float graph, with globs of what stays float."""


@dataclass(frozen=True)
class File:
    """One file, what it loses on the judging samples, how much of it runs in int8, and its parity."""

    name: str
    path: Path
    precision: str
    judged: Judgement
    share: Int8Share | None = None
    parity: parity.Parity | None = None

    @property
    def is_int8(self) -> bool:
        """Whether it is one of those that compute with integers."""
        return self.precision in INTEGER_PRECISIONS


def write_files(
    folder: Path,
    given: Path,
    floating: ModelProto,
    canonical: ModelProto | None,
    names: Sequence[str],
    judge: Judge,
    ignore: Sequence[str] = (),
) -> list[File]:
    """The file that was given, the same as one runs it fastest in float, and each emission.

    The file with dynamic scales is made unasked where linear layers do the work and this processor sums 8 bits rightly.
    `canonical` may be None if all of `names` need no calibration; `ignore` are globs of layers that stay float in
    these.

    Raises:
        StageError: An emission does not give the canonical graph's answers, or cannot be made of it.
    """
    folder.mkdir(parents=True)
    exact = judge.judge(judge.reference)
    shutil.copyfile(given, folder / "given.onnx")
    files = [File(GIVEN, folder / "given.onnx", "fp32", exact)]
    save(floating, folder / "fp32.onnx")
    files.append(File(FLOAT, folder / "fp32.onnx", "fp32", exact))
    wanted = DYNAMIC not in names and not saturates_here() and dynamic.would_quantize(floating, ignore)
    unasked = [DYNAMIC] if wanted else []
    for name in (*names, *unasked):
        if name in MAKE:
            files.append(_uncalibrated(folder, name, floating, judge, ignore))
        else:
            assert canonical is not None, name
            files.append(_emitted(folder, name, canonical, judge))
    return files


def _uncalibrated(folder: Path, name: str, floating: ModelProto, judge: Judge, ignore: Sequence[str]) -> File:
    """A file that is made of the float graph as it is, held against its float twin."""
    proto = MAKE[name](floating, ignore)
    path = folder / f"{name}.onnx"
    refuse(lint(proto, name), path.name, name)
    save(proto, path)
    found = check_rounded(path, floating, judge.feeds[:PARITY_BATCHES], emission=name)
    return File(name, path, precision_of(name), judge(proto), int8_share(path), found)


def _emitted(folder: Path, name: str, canonical: ModelProto, judge: Judge) -> File:
    path = folder / f"{name}.onnx"
    proto = EMISSIONS[name](canonical)
    refuse(lint(proto, name), path.name, name)
    save(proto, path)
    try:
        found = _parity(path, name, proto, canonical, judge)
    except StageError as error:
        place = explain(canonical, path, judge.feeds[0])
        where = "" if place is None else f". {place.sentence('the canonical graph', path.name)}"
        raise StageError(f"{name}: {error}{where}") from error
    share = int8_share(path, signed=name == "ort-arm") if name in HERE else None
    return File(name, path, "int8", judge(proto), share, found)


def _parity(path: Path, name: str, proto: ModelProto, canonical: ModelProto, judge: Judge) -> parity.Parity:
    """The emission against the canonical graph, both without the runtime's optimizations.

    A file for TensorRT rounds at fewer places and may compute in float16: so does what it is held against.
    """
    plain = path.with_name(".canonical.onnx")
    narrowed = name == "tensorrt" and computes_in_float16(proto)
    reference = _rounding_as(canonical, proto) if name == "tensorrt" else canonical
    save(reference, plain)
    feeds = judge.feeds[:PARITY_BATCHES]
    try:
        expected = parity.run(plain, feeds, optimize=False)
        if narrowed:
            save(narrow(at_least(reference, tensorrt.OPSET), TensorProto.FLOAT16), plain)
            again = parity.run(plain, feeds, optimize=False)
        else:
            again = _in_another_order(plain, feeds)
    finally:
        plain.unlink()
    return parity.check(path, feeds, expected, integer=True, again=again, emission=name, narrow=narrowed)


def _rounding_as(canonical: ModelProto, proto: ModelProto) -> ModelProto:
    """The canonical graph without the roundings that a file leaves out."""
    kept = {node.name for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    result = ModelProto()
    result.CopyFrom(canonical)
    graph = Graph(result.graph)
    readers = graph.readers()
    for node in [node for node in graph.nodes if node.op_type == "QuantizeLinear" and node.name not in kept]:
        for item in (node, *readers[node.output[0]]):
            item.CopyFrom(helper.make_node("Identity", [item.input[0]], [item.output[0]], item.name))
    graph.write()
    return result


def _in_another_order(path: Path, feeds: Sequence[dict[str, Any]]) -> list[Any]:
    """The same numbers by float kernels that add in another order: how far rounding alone takes answers apart."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(session.run(None, feed)[0]) for feed in feeds]
