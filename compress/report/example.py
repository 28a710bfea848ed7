"""Runs one of the files beside this one. Needs onnxruntime and NumPy (and Pillow, to read pictures).

python example.py                                   the first file of manifest.json, on a made-up example
python example.py MODEL.onnx                        another file
python example.py MODEL.onnx a.npy b.png            on examples of yours: one array or picture each

An example is what the network was trained with before preprocessing: H x W or H x W x C for pictures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
MADE_UP_SIZE = 32  # for an axis of any length


def main(arguments: list[str]) -> None:
    """Print what a file answers for each example."""
    import onnxruntime
    from preprocessing import Preprocessing  # type: ignore[import-not-found]

    entry, examples = chosen(arguments)
    session = onnxruntime.InferenceSession(HERE / entry["model"], providers=["CPUExecutionProvider"])
    preprocess = Preprocessing(entry["preprocessing"])
    for name in examples or [""]:
        raw = [read(name)] if name else made_up(entry)
        batches = [preprocess([raw[0]]), *(array[None] for array in raw[1:])]
        feeds = {spec["name"]: fill(batch, spec) for spec, batch in zip(entry["inputs"], batches, strict=True)}
        for spec, answer in zip(entry["outputs"], session.run(None, feeds), strict=True):
            print(f"{name or 'a made-up example'}: {spec['name']} = {words(answer[0], entry['labels'])}")  # noqa: T201


def chosen(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The file's entry in the manifest, and what is left of the arguments: the examples."""
    entries = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))["files"]
    by_name = {entry[key]: entry for entry in entries for key in ("path", "name")}
    if arguments and (entry := by_name.get(Path(arguments[0]).name)) is not None:
        return entry, arguments[1:]
    if arguments and arguments[0].endswith(".onnx"):
        sys.exit(f"{arguments[0]}: not in manifest.json, which has {', '.join(entry['path'] for entry in entries)}")
    return entries[0], arguments


def read(name: str) -> np.ndarray[Any, Any]:
    """An array (.npy) or a picture."""
    if name.endswith(".npy"):
        array: np.ndarray[Any, Any] = np.load(name)
        return array
    from PIL import Image

    return np.asarray(Image.open(name))


def made_up(entry: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Noise, or zeros where the network counts in whole numbers, as each input takes it before preprocessing."""
    raw = []
    for at, spec in enumerate(entry["inputs"]):
        shape = [size if isinstance(size, int) else MADE_UP_SIZE for size in spec["shape"][1:]]
        values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        first_channels = any(step.get("image", {}).get("layout") == "chw" for step in entry["preprocessing"])
        if at == 0 and entry["preprocessing"]:
            raw.append(np.moveaxis(values, 0, -1) if len(shape) == 3 and not first_channels else values)
        elif spec["dtype"].startswith("float"):
            raw.append((values / 255).astype(spec["dtype"]))
        else:
            raw.append(np.zeros(shape, dtype=spec["dtype"]))
    return raw


def fill(batch: np.ndarray[Any, Any], spec: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The batch in the type and of the length that the file takes."""
    length = spec["shape"][0]
    repeats = length if isinstance(length, int) else 1
    return np.repeat(batch, repeats, axis=0).astype(spec["dtype"])


def words(answer: np.ndarray[Any, Any], labels: list[str] | None) -> str:
    """The label of the largest number, or what the answer looks like."""
    if labels is not None and answer.shape == (len(labels),):
        return f"{labels[int(answer.argmax())]} (largest of {len(labels)} logits: {answer.max():.4g})"
    return f"{answer.dtype.name} {list(answer.shape)}, from {answer.min():.4g} to {answer.max():.4g}"


if __name__ == "__main__":
    main(sys.argv[1:])
