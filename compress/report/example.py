"""Runs one of the files beside this one. Needs onnxruntime and NumPy (Pillow to read pictures, tokenizers for texts).

python example.py                                   the first file of manifest.json, on a made-up example
python example.py MODEL.onnx                        another file
python example.py MODEL.onnx a.npy b.png            on examples of yours: one array or picture each
python example.py MODEL.onnx "one text" "another"   of a network that reads texts; a pair has a tab between its texts

An example is what the network was trained with before preprocessing: H x W or H x W x C for pictures. A network that
writes goes on from each text; one that was trained on masked texts fills in what is masked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
MADE_UP_SIZE = 32  # for an axis of any length
MADE_UP_TEXT = "this is an example"
WRITTEN = 12  # tokens that a network which writes goes on for


def main(arguments: list[str]) -> None:
    """Print what a file answers for each example."""
    import onnxruntime
    from preprocessing import Preprocessing  # type: ignore[import-not-found]

    entry, examples = chosen(arguments)
    session = onnxruntime.InferenceSession(HERE / entry["model"], providers=["CPUExecutionProvider"])
    if "tokenizer" in entry.get("extra", {}):
        for text in examples or [MADE_UP_TEXT]:
            print(f"{text!r}: {answer_to(text, session, entry)}")  # noqa: T201
        return
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


def answer_to(text: str, session: Any, entry: dict[str, Any]) -> str:
    """What a network says of a text, or how it goes on."""
    from tokenizers import Tokenizer  # type: ignore[import-untyped]

    settings = entry["extra"]["tokenizer"]
    tokenizer = Tokenizer.from_file(str((HERE / entry["model"]).parent / settings["file"]))
    tokenizer.enable_truncation(settings["max_length"])
    if settings["prompt"]:
        text = settings["prompt"].replace("{input}", text)
    encoded = tokenizer.encode(*text.split("\t", 1))
    if len(entry["outputs"][0]["shape"]) < 3:
        return words(logits_of(session, entry, encoded.ids, [], encoded.type_ids)[0], entry["labels"])
    if entry["task"]["name"] == "masked-lm":
        filled = logits_of(session, entry, encoded.ids, [], encoded.type_ids)[0].argmax(axis=-1)
        masked = [at for at, token in enumerate(encoded.ids) if token == settings["mask_id"]]
        return ", ".join(repr(tokenizer.decode([filled[at]])) for at in masked) or "there is nothing masked in it"
    if "decoder_input_ids" in settings["inputs"]:
        return repr(tokenizer.decode(written(session, entry, encoded.ids)))
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    return repr(tokenizer.decode(written(session, entry, [*settings["beginning"], *plain] or encoded.ids)))


def written(session: Any, entry: dict[str, Any], read: list[int]) -> list[int]:
    """The tokens with which a network goes on, each the likeliest; the whole text is computed anew for each of them."""
    settings = entry["extra"]["tokenizer"]
    decodes = "decoder_input_ids" in settings["inputs"]
    said: list[int] = []
    while len(said) < WRITTEN and (decodes or len(read) + len(said) < settings["max_length"]):
        ids = read if decodes else read + said
        token = int(logits_of(session, entry, ids, [settings["start_id"], *said], [0] * len(ids))[0, -1].argmax())
        if token == settings["eos_id"]:
            break
        said.append(token)
    return said


def logits_of(session: Any, entry: dict[str, Any], read: list[int], said: list[int], types: list[int]) -> Any:
    """The first output for one text: what is read, what a decoder has said so far, and the token types of pairs."""
    ids = {"input_ids": read, "attention_mask": [1] * len(read), "decoder_input_ids": said, "token_type_ids": types}
    feeds = {spec["name"]: np.array([ids[spec["name"]]], dtype=np.int64) for spec in entry["inputs"]}
    feeds = {spec["name"]: fill(feeds[spec["name"]], spec) for spec in entry["inputs"]}
    return session.run(None, feeds)[0]


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
