"""The library's functions on files: bare ONNX files, and models at rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.bundle import Kind, write_bundle
from compress.errors import UsageError
from compress.profiling.profile import Profile
from compress.stage import Progress, Silent
from compress.targets.reading import read_target
from compress.targets.settings import TargetSettings
from compress.validation import checked

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from compress.bare.quantize import QuantizedFile


def quantize_file(
    model: str | Path,
    samples: str | Path | Mapping[str, NDArray[Any]],
    folder: str | Path,
    *,
    emit: str | Sequence[str] = (),
    target: str | TargetSettings = "local",
    progress: Progress | None = None,
    **settings: Any,
) -> QuantizedFile:
    """Quantize a bare float ONNX file without training: no PyTorch model is needed.

    Args:
        model: the file.
        samples: arrays by input name (and `labels`, if known), an .npz file of such, or a folder of arrays or images.
        folder: where the files and a report are written; it must be new, empty, or of an earlier call.
        emit: names of int8 files such as `ort-x86`; by default those that suit the target.
        target: a built-in name, the path of a target's file, or its settings.
        progress: where long work says how far it is; by default nowhere.
        settings: the other fields of `compress.bare.asked.Asked`, such as `budget=0.01` and `rungs=("static",)`.

    Returns:
        The files by name, which of them to deploy, and why.

    Raises:
        UsageError: the file is no float ONNX graph, samples do not fit it, or a setting is wrong.
        StageError: a file that was made does not give the answers that it should.
    """
    from compress.bare.asked import Asked
    from compress.bare.quantize import quantize_file as quantize_bare

    emitted = (emit,) if isinstance(emit, str) else tuple(emit)
    given = samples if isinstance(samples, Mapping) else Path(samples)
    try:
        asked = Asked(emit=emitted, **settings)
    except TypeError as error:
        raise UsageError(f"quantize_file: {str(error).removeprefix('Asked.__init__() ')}") from None
    chosen = read_target(target, Path.cwd()) if isinstance(target, str) else target
    return quantize_bare(Path(model), given, Path(folder), asked, target=chosen, progress=progress or Silent())


def profile(
    files: str | Path | Mapping[str, str | Path], *, target: str | TargetSettings = "local", **settings: Any
) -> Profile:
    """Measure ONNX files side by side: latency, throughput, load time and memory, in rounds of fresh processes.

    Args:
        files: one file, or several by name.
        target: a built-in name, the path of a target's file, or its settings.
        settings: keys of a target, such as `threads=2` or `batches=(1, 8)`.

    Returns:
        A mapping from name to the file's latencies, one for each batch size, in milliseconds.

    Raises:
        UsageError: a file or a setting is wrong.
        StageError: a model fails when it is run.
    """
    from compress.profiling.profile import profile as profile_files

    base = read_target(target, Path.cwd()) if isinstance(target, str) else target
    chosen = checked(TargetSettings, {**base.model_dump(), **settings})
    named = files if isinstance(files, Mapping) else {Path(files).stem: files}
    return profile_files({name: Path(path) for name, path in named.items()}, chosen)


def save(model: nn.Module, folder: str | Path, *, like: str | Path) -> None:
    """Write a float network into `folder`, as a model at rest made from the one in `like` (a folder of `models/`).

    Raises:
        UsageError: the network differs from the other in ways that plain data cannot say.
    """
    from compress.bundle import read_bundle
    from compress.models import rest
    from compress.models.deployment import copy_tokenizer
    from compress.models.transformers_sizes import resized

    home = Path(folder)
    rest.save(model, resized(rest.read_factory(Path(like)), model), home)
    write_bundle(home, Kind.TORCH, read_bundle(Path(like)).deployment)
    copy_tokenizer(Path(like), home)


def load(folder: str | Path) -> nn.Module:
    """The network that lies in a folder of a run's `models/`: float, pruned or quantized, in evaluation mode.

    Raises:
        UsageError: the folder holds no model, or its files have changed.
    """
    from compress.bundle import BUNDLE_FILE, read_bundle

    home = Path(folder)
    if not (home / BUNDLE_FILE).is_file():
        raise UsageError(f"{home}: holds no model ({BUNDLE_FILE} is missing)")
    if read_bundle(home).kind is Kind.QUANTIZED:
        from compress.quantization.rest import load_quantized

        return load_quantized(home)
    from compress.models.rest import load as load_float

    return load_float(home)
