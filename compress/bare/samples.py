"""Samples for a bare ONNX file: arrays, a folder of arrays or images, or a data set of a pipeline."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import UsageError

Array = NDArray[Any]
LABELS = ("labels", "label", "y", "targets")
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
LARGEST_COUNT = 4096
"""Samples that are read from a folder or a data set at most."""
DTYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64", 2: "uint8", 3: "int8"}


@dataclass(frozen=True)
class Input:
    """An input of a graph: NumPy's name of its type and its shape, dynamic axes as None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Images:
    """How image files become inputs: they are scaled to the input's height and width, then (x * scale - mean) / std."""

    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Samples:
    """`arrays` by input name, all of one length; `labels` (N,) class numbers, if known."""

    arrays: Mapping[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def part(self, chosen: slice) -> Samples:
        """Some of them."""
        labels = None if self.labels is None else self.labels[chosen]
        return Samples({name: array[chosen] for name, array in self.arrays.items()}, labels)

    def shuffled(self, seed: int = 0) -> Samples:
        """In another order: folders and files are often sorted by class."""
        order = np.random.default_rng(seed).permutation(len(self))
        labels = None if self.labels is None else self.labels[order]
        return Samples({name: array[order] for name, array in self.arrays.items()}, labels)

    def batches(self, size: int, *, fixed: bool = False) -> list[dict[str, Array]]:
        """Feeds of `size` samples; where the graph takes no other number the last one is filled up with repetitions."""
        found = []
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            if fixed:
                rows = np.resize(rows, size)
            found.append({name: np.ascontiguousarray(array[rows]) for name, array in self.arrays.items()})
        return found


def inputs_of(proto: Any) -> list[Input]:
    """The inputs of an ONNX graph that are no weights."""
    constants = {item.name for item in proto.graph.initializer}
    return [
        Input(
            value.name,
            DTYPES.get(value.type.tensor_type.elem_type, "float32"),
            tuple(axis.dim_value or None for axis in value.type.tensor_type.shape.dim),
        )
        for value in proto.graph.input
        if value.name not in constants
    ]


def read_samples(source: Path | Mapping[str, Array], inputs: Sequence[Input], images: Images | None = None) -> Samples:
    """Samples from arrays by input name, an .npz or .npy file, or a folder of such files or of images.

    In an .npz file or a mapping an array called `labels` (or `y`) holds class numbers; a folder of folders of images
    has a class in each, numbered in alphabetical order.

    Raises:
        UsageError: There are none, or they do not fit the graph's inputs.
    """
    if isinstance(source, Mapping):
        return _fitting(dict(source), inputs, "samples")
    if source.is_dir():
        return _from_folder(source, inputs, images or Images())
    if not source.is_file():
        raise UsageError(f"--samples: no such file or folder: {source}")
    if source.suffix not in (".npz", ".npy"):
        raise UsageError(f"--samples: {source}: give an .npz or .npy file, a folder of them, or a folder of images")
    return _fitting(_arrays(source, inputs), inputs, str(source))


def _arrays(path: Path, inputs: Sequence[Input]) -> dict[str, Array]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {inputs[0].name if inputs else "": content}
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"--samples: {path} holds no arrays that can be read: {said}") from error


def _fitting(arrays: dict[str, Array], inputs: Sequence[Input], where: str) -> Samples:
    """The arrays that the inputs want, of their types and shapes."""
    if not inputs or not all(item.shape for item in inputs):
        lacking = next((f"its input {item.name} has no axes" for item in inputs), "it has no inputs")
        raise UsageError(f"{where}: the model takes no samples: {lacking}")
    labels = next(
        (arrays.pop(name) for name in LABELS if name in arrays and name not in {i.name for i in inputs}), None
    )
    if len(inputs) == 1 and len(arrays) == 1 and inputs[0].name not in arrays:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    if missing := [item.name for item in inputs if item.name not in arrays]:
        raise UsageError(
            f"{where}: nothing for the input {missing[0]!r}; there are {', '.join(sorted(arrays)) or 'no arrays'}. "
            f"Name the arrays as the inputs: {', '.join(item.name for item in inputs)}"
        )
    found = {item.name: _as_input(arrays[item.name], item, where) for item in inputs}
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) != 1:
        raise UsageError(f"{where}: the inputs have different numbers of samples: {counts}")
    count = next(iter(counts.values()))
    if not count:
        raise UsageError(f"{where}: holds no samples")
    if labels is not None and labels.shape != (count,):
        raise UsageError(f"{where}: labels have shape {labels.shape}; wanted is one class number for each of {count}")
    if labels is not None and not _holds_integers(labels):
        raise UsageError(f"{where}: labels hold {labels.dtype}; wanted are class numbers")
    return Samples(found, None if labels is None else labels.astype(np.int64))


def _holds_integers(array: Array) -> bool:
    return array.dtype.kind in "iub" or (array.dtype.kind == "f" and bool(np.all(array == np.rint(array))))


def _as_input(array: Array, item: Input, where: str) -> Array:
    if array.ndim == len(item.shape) - 1 and len(item.shape) > 1:
        array = array[None]
    wanted = item.shape[1:]
    fits = array.ndim == len(item.shape) and all(
        want is None or have == want for have, want in zip(array.shape[1:], wanted, strict=True)
    )
    if not fits:
        shape = ["N", *("any" if axis is None else axis for axis in wanted)]
        raise UsageError(f"{where}: {item.name} has shape {list(array.shape)}; the model takes {shape}")
    if array.dtype.kind not in "fiub" or not (item.dtype.startswith("float") or _holds_integers(array)):
        raise UsageError(f"{where}: {item.name} holds {array.dtype}; the model takes {item.dtype}")
    result: Array = array.astype(item.dtype)
    if result.dtype.kind == "f" and not np.isfinite(result).all():
        raise UsageError(f"{where}: {item.name} holds values that are not finite")
    return result


def _from_folder(folder: Path, inputs: Sequence[Input], images: Images) -> Samples:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    arrays = [path for path in files if path.suffix in (".npz", ".npy")]
    pictures = [path for path in files if path.suffix.lower() in IMAGES]
    if arrays:
        parts = [_fitting(_arrays(path, inputs), inputs, str(path)) for path in arrays[:LARGEST_COUNT]]
        joined = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        known = [part.labels for part in parts if part.labels is not None]
        return Samples(joined, np.concatenate(known) if len(known) == len(parts) else None)
    if not pictures:
        raise UsageError(f"--samples: {folder} holds neither .npz or .npy files nor images")
    return _from_pictures(folder, pictures[:LARGEST_COUNT], inputs, images)


def _from_pictures(folder: Path, files: Sequence[Path], inputs: Sequence[Input], images: Images) -> Samples:
    from compress.data.pictures import decode
    from compress.data.preprocessing import Preprocessing

    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UsageError(f"--samples: {folder} holds images, but the model has other inputs; give .npz files")
    (item,) = inputs
    last = item.shape[1] not in (1, 3) and item.shape[3] in (1, 3)
    channels, height, width = (item.shape[i] for i in ((3, 1, 2) if last else (1, 2, 3)))
    size = images.size or ((height, width) if height and width else None)
    if size is None:
        raise UsageError("--samples: the model takes images of any size; say at which with --size HEIGHTxWIDTH")
    steps: list[dict[str, Any]] = [{"color": {"mode": "grey" if channels == 1 else "rgb"}}]
    steps += [{"resize": {"size": list(size)}}, {"scale": {"factor": images.scale}}]
    if images.mean or images.std:
        mean, std = images.mean or (0.0,), images.std or (1.0,)
        wide = max(len(mean), len(std))
        steps.append({"normalize": {"mean": list(_wide(mean, wide)), "std": list(_wide(std, wide))}})
    try:
        array = Preprocessing(steps)([decode(path, str(path)) for path in files])
    except ValueError as error:
        raise UsageError(f"--samples: {error}") from error
    classes = sorted({path.parent.name for path in files if path.parent != folder})
    labelled = len(classes) > 1 and all(path.parent != folder for path in files)
    labels = np.array([classes.index(path.parent.name) for path in files]) if labelled else None
    if not item.dtype.startswith("float"):
        array = np.rint(array)
    return Samples({item.name: _as_input(array.transpose(0, 2, 3, 1) if last else array, item, str(folder))}, labels)


def _wide(values: Sequence[float], count: int) -> Sequence[float]:
    return tuple(values) * count if len(values) == 1 else tuple(values)
