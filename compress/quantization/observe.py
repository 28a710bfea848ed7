"""What a float ONNX graph's tensors hold on example inputs, read from ONNX Runtime while it computes them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from compress.errors import StageError
from compress.exporting.right_sums import saturates_here, unsigned
from compress.quantization.observers import Extremes, Histogram
from compress.quantization.ranges import Floats

Array = NDArray[Any]
Feeds = dict[str, Array]
Batches = Callable[[], Iterable[Feeds]]
"""Gives the same batches of inputs each time that it is called."""


class Watching:
    """A graph in ONNX Runtime that also gives inner tensors."""

    def __init__(self, proto: ModelProto, tensors: Sequence[str], threads: int = 1, *, optimize: bool = True) -> None:
        watched = ModelProto()
        watched.CopyFrom(proto)
        known = {value.name for value in (*watched.graph.output, *watched.graph.input)}
        self.inputs = {value.name for value in watched.graph.input}
        watched.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in dict.fromkeys(tensors)
            if name not in known
        )
        self.tensors = list(tensors)
        self.session = session(watched, threads, optimize=optimize)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """The watched tensors for one batch."""
        wanted = [name for name in self.tensors if name not in self.inputs]
        try:
            found = dict(zip(wanted, self.session.run(wanted, feeds), strict=True)) if wanted else {}
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise StageError(f"the model fails on the samples: {str(error).splitlines()[0]}") from error
        return {name: np.asarray(found[name] if name in found else feeds[name]) for name in self.tensors}


def session(proto: ModelProto, threads: int = 1, *, optimize: bool = True) -> Any:
    """An ONNX Runtime session of a graph of any size, on the CPU.

    On a processor whose int8 kernels saturate, a quantized graph computes in float what it would elsewhere.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if saturates_here():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        proto = unsigned(proto)
    try:
        content: Any = proto.SerializeToString()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except ValueError:  # over protobuf's 2 GB
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(proto, path, save_as_external_data=True)
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def watch(
    proto: ModelProto, watchers: dict[str, Callable[[Array], None]], batches: Iterable[Feeds], threads: int = 1
) -> int:
    """Show each watcher the values of its tensor on every batch; the number of batches."""
    watching = Watching(proto, list(watchers), threads)
    count = 0
    for feeds in batches:
        for name, values in watching(feeds).items():
            watchers[name](values)
        count += 1
    return count


def extremes(proto: ModelProto, tensors: Sequence[str], batches: Batches, threads: int = 1) -> dict[str, Extremes]:
    """Of each tensor.

    Raises:
        StageError: A tensor is not finite, or there is no batch.
    """
    found = {name: Extremes() for name in tensors}
    if not watch(proto, dict(found), batches(), threads):
        raise StageError("calibration: there is no sample to take ranges from")
    for name, seen in found.items():
        if not seen.is_finite:
            raise StageError(f"calibration: {name} is not finite on the samples")
    return found


def histograms(
    proto: ModelProto, ranges: dict[str, tuple[float, float]], batches: Batches, threads: int = 1
) -> dict[str, Histogram]:
    """Of each tensor, between the least and greatest value that it has on the same batches."""
    found = {name: Histogram(*edges) for name, edges in ranges.items()}
    watch(proto, dict(found), batches(), threads)
    return found


def channel_means(
    proto: ModelProto, tensors: Sequence[str], axes: Sequence[int], batches: Batches, threads: int = 1
) -> dict[str, Floats]:
    """The mean of each tensor per channel; `axes` says which axis holds channels."""
    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}

    def watcher(name: str, axis: int) -> Callable[[Array], None]:
        def see(values: Array) -> None:
            moved = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
            sums[name] = sums.get(name, 0.0) + moved.sum(0, dtype=np.float64)
            counts[name] = counts.get(name, 0) + len(moved)

        return see

    watch(proto, {name: watcher(name, axis) for name, axis in zip(tensors, axes, strict=True)}, batches(), threads)
    return {name: sums[name] / counts[name] for name in tensors}
