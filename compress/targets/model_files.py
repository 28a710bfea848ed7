"""The files of a model: an ONNX file or an engine, and those beside it."""

from __future__ import annotations

import functools
from pathlib import Path


def model_files(model: Path) -> tuple[Path, ...]:
    """`model`, then the files that hold its weights, if any; just `model` where it cannot be read.

    Beside an engine of TensorRT lies what it belongs to.
    """
    if model.suffix == ".plan":
        return (model, model.with_suffix(".json"))
    if model.suffix != ".onnx" or not model.is_file():
        return (model,)
    status = model.stat()
    return (model, *_weights(model, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=256)
def _weights(model: Path, size: int, mtime_ns: int) -> tuple[Path, ...]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(str(model), load_external_data=False)
    except DecodeError:
        return ()
    found = dict.fromkeys(
        entry.value
        for tensor in onnx.external_data_helper._get_all_tensors(proto)
        if onnx.external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    )
    inside = [model.parent / name for name in found if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return tuple(path for path in inside if path.is_file())
