"""`minimal.py`: about ten lines that run one file, with ONNX Runtime and NumPy and what reads its examples, no more.

It is written for one entry of the manifest, from which it takes preprocessing and labels. `example.py`, which lies
beside it too, runs any of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MINIMAL_FILE = "minimal.py"
_SIDE = 32
"""Of a made-up example, along an axis of any length."""


def minimal_example(entry: Mapping[str, Any]) -> str:
    """The program's text, for an entry of `manifest.json` of kind `onnx`."""
    return _text(entry) if "tokenizer" in entry.get("extra", {}) else _arrays(entry)


def _arrays(entry: Mapping[str, Any]) -> str:
    """Networks that read pictures or other arrays."""
    shapes = [[size if isinstance(size, int) else _SIDE for size in spec["shape"][1:]] for spec in entry["inputs"]]
    steps = {name: settings for step in entry["preprocessing"] for name, settings in step.items()}
    picture = bool(steps) and len(shapes) == 1 and len(shapes[0]) == 3 and steps.get("image", {}).get("layout") != "chw"
    reads, packages = "np.load(sys.argv[1])", "onnxruntime and NumPy"
    if picture:
        reads, packages = "np.asarray(Image.open(sys.argv[1]))", "onnxruntime, NumPy and Pillow"
        shapes = [[*shapes[0][1:], shapes[0][0]] if shapes[0][0] > 1 else shapes[0][1:]]
    kind = "np.uint8" if steps else "np.float32"
    known = _output(entry, "answer")
    given = "picture.png" if picture else "example.npy"
    lines = [
        f'"""What {entry["path"]} says: python {MINIMAL_FILE} {given}, or of zeros; needs {packages}."""',
        "import json, sys",
        "from pathlib import Path",
        "import numpy as np, onnxruntime",
        *(["from PIL import Image"] if picture else []),
        "from preprocessing import Preprocessing",
        "",
        *_opened(entry),
    ]
    if len(entry["inputs"]) == 1:
        [spec], [shape] = entry["inputs"], shapes
        batch = _filled('Preprocessing(entry["preprocessing"])([example])', spec)
        lines += [
            f"example = {reads} if len(sys.argv) > 1 else np.zeros({tuple(shape)}, {kind})",
            f'answer = session.run(None, {{"{spec["name"]}": {batch}}})[0][0]',
        ]
    else:
        lines.append("feeds = {}")
        for spec, shape in zip(entry["inputs"], shapes, strict=True):
            zeros = f'np.zeros(({_batch(spec)}, {", ".join(map(str, shape))}), "{spec["dtype"]}")'
            lines.append(f'feeds["{spec["name"]}"] = {zeros}  # an example of yours')
        lines.append("answer = session.run(None, feeds)[0][0]")
    return "\n".join([*lines, known]) + "\n"


def _text(entry: Mapping[str, Any]) -> str:
    """Networks that read texts."""
    settings, task = entry["extra"]["tokenizer"], entry["task"].get("name")
    writes = task == "causal-lm"
    folder = entry["model"].rpartition("/")[0]
    length = next((spec["shape"][1] for spec in entry["inputs"] if spec["name"] == "input_ids"), None)
    lines = [
        f'"""What {entry["path"]} says: python {MINIMAL_FILE} "a text"; needs onnxruntime, NumPy and tokenizers."""',
        "import json, sys",
        "from pathlib import Path",
        "import numpy as np, onnxruntime",
        "from tokenizers import Tokenizer",
        "",
        *_opened(entry),
        f'tokenizer = Tokenizer.from_file(str(here / "{f"{folder}/" if folder else ""}{settings["file"]}"))',
    ]
    text = '(sys.argv[1:] or ["this is an example"])[0]'
    if settings.get("prompt"):
        text = f"{settings['prompt']!r}.replace('{{input}}', {text})"
    if writes:
        beginning = settings["beginning"] or [settings["start_id"]]
        lines.append(f"ids = {beginning} + tokenizer.encode({text}, add_special_tokens=False).ids")
        lines.append("mask, types = [1] * len(ids), [0] * len(ids)")
    else:
        lines.append(f"tokenizer.enable_truncation({settings['max_length']})")
        if isinstance(length, int):
            lines.append(f"tokenizer.enable_padding(length={length}, pad_id={settings['pad_id']})")
        lines.append(f"encoded = tokenizer.encode({text})")
        lines.append("ids, mask, types = encoded.ids, encoded.attention_mask, encoded.type_ids")
    if writes and isinstance(length, int):
        lines.append(f"end, fill = len(ids) - 1, [0] * ({length} - len(ids))")
        lines.append(f"ids, mask, types = ids + [{settings['pad_id']}] * len(fill), mask + fill, types + fill")
    values = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
    values["decoder_input_ids"] = f"[{settings.get('start_id', settings['pad_id'])}]"
    feeds = ", ".join(
        f'"{spec["name"]}": np.array([{values[spec["name"]]}] * {_batch(spec)}, np.int64)' for spec in entry["inputs"]
    )
    lines.append(f"answer = session.run(None, {{{feeds}}})[0][0]")
    if len(entry["outputs"][0]["shape"]) < 3:
        lines.append(_output(entry, "answer"))
    elif task == "masked-lm":
        masked = f"np.array(ids) == {settings['mask_id']}"
        lines.append(f"print(tokenizer.decode(answer.argmax(-1)[{masked}]) or 'there is nothing masked in it')")
    else:
        at = "end" if writes and isinstance(length, int) else "-1"
        lines.append(f"print('goes on with', repr(tokenizer.decode([answer[{at}].argmax()])))")
    return "\n".join(lines) + "\n"


def _opened(entry: Mapping[str, Any]) -> list[str]:
    """The manifest's entry and a session."""
    return [
        "here = Path(__file__).resolve().parent",
        'files = json.loads((here / "manifest.json").read_text(encoding="utf-8"))["files"]',
        f'entry = next(file for file in files if file["name"] == "{entry["name"]}")',
        'session = onnxruntime.InferenceSession(here / entry["model"])',
    ]


def _output(entry: Mapping[str, Any], name: str) -> str:
    """How an answer is shown: the class of the largest number, or the numbers."""
    classes = entry["outputs"][0]["shape"][-1]
    one_class = "multi-label" not in str(entry["task"].get("name"))
    if one_class and entry["labels"] is not None and len(entry["labels"]) == classes:
        return f'print(entry["labels"][{name}.argmax()], {name}.max())'
    return f"print({name})"


def _filled(batch: str, spec: Mapping[str, Any]) -> str:
    """A batch of one as the file takes it."""
    count, kind = _batch(spec), spec["dtype"]
    repeated = batch if count == 1 else f"np.repeat({batch}, {count}, 0)"
    return repeated if kind == "float32" else f'{repeated}.astype("{kind}")'


def _batch(spec: Mapping[str, Any]) -> int:
    return spec["shape"][0] if isinstance(spec["shape"][0], int) else 1
